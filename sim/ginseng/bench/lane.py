"""A lane with its key schedule in Verilator: chunks in, texts and tags out."""

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from amaranth import Module
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ginseng.bench.errors import BenchError
from ginseng.bench.model import Model
from ginseng.crypto.expand import Expand
from ginseng.crypto.job import BLOCK_BYTES, LaneConfig
from ginseng.crypto.lane import Lane

__all__ = ["Burst", "Chunk", "LaneModel", "LaneTop"]

#: Cycles in which the slowest key schedule is through, and a hash key after it.
_KEY_CYCLES = 200


class LaneTop(wiring.Component):  # type: ignore[type-arg]  # ports come from the signature
    """A lane whose outputs are streams that need not wait, and whose keys come by a stream.

    Parameters
    ----------
    config : LaneConfig

    """

    key: Any
    hash_key: Any
    job: Any
    i: Any
    o: Any
    tag: Any
    wipe: Any
    wiped: Any
    busy_aes: Any
    busy_ghash: Any

    def __init__(self, config: LaneConfig) -> None:
        self.config = config
        self.expand = Expand(config.aes)
        self.lane = Lane(config)
        super().__init__(
            {
                "key": self.expand.signature.members["i"],
                "hash_key": self.lane.signature.members["hash_key"],
                "job": In(stream.Signature(config.job)),
                "i": In(stream.Signature(config.data_bits)),
                "o": Out(stream.Signature(config.data_bits)),
                "tag": Out(stream.Signature(8 * BLOCK_BYTES)),
                "wipe": In(1),
                "wiped": Out(1),
                "busy_aes": Out(1),
                "busy_ghash": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Wire it up."""
        m = Module()

        m.submodules.expand, m.submodules.lane = expand, lane = self.expand, self.lane
        port: Any = lane.port
        wiring.connect(m, wiring.flipped(self.key), expand.i)
        wiring.connect(m, wiring.flipped(self.hash_key), lane.hash_key)
        wiring.connect(m, wiring.flipped(self.job), port.job)
        wiring.connect(m, wiring.flipped(self.i), port.i)
        wiring.connect(m, expand.round_key, lane.round_key)
        m.d.comb += [
            self.o.valid.eq(port.o_valid),
            self.o.payload.eq(port.o_data),
            self.tag.valid.eq(port.tag_valid),
            self.tag.payload.eq(port.tag),
            lane.wipe.eq(self.wipe),
            self.wiped.eq(lane.wiped),
            self.busy_aes.eq(lane.busy_aes),
            self.busy_ghash.eq(lane.busy_ghash),
        ]

        return m


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """What a lane is to seal or to open.

    Attributes
    ----------
    seals : bool
    slot, context : int
    nonce : bytes
        12 bytes.
    text : bytes
        Whole blocks.
    place : int
        Where its first byte is in a beat, a multiple of the granule.

    """

    seals: bool
    slot: int
    context: int = 0
    nonce: bytes
    text: bytes
    place: int = 0

    @property
    def blocks(self) -> int:
        """Blocks of the text."""
        return len(self.text) // BLOCK_BYTES


@dataclass(frozen=True)
class Burst:
    """Blocks ``begin`` to before ``end`` of chunk number ``chunk``: a job."""

    chunk: int
    begin: int
    end: int


def _pack(layout: data.StructLayout, values: Mapping[str, int]) -> int:
    """Return an item of a layout as a number."""
    return sum(values.get(name, 0) << field.offset for name, field in layout)


class LaneModel:
    """A Verilated lane.

    Parameters
    ----------
    config : LaneConfig
    idle : float
        Chance of a pause before each job and each beat.
    seed : int
        Of the pauses.

    Attributes
    ----------
    model : Model
    cycles : list of int
        Cycles in which beats came out, of the last `run`.

    """

    def __init__(self, config: LaneConfig, *, idle: float = 0.0, seed: int = 1) -> None:
        self.config = config
        self._top = LaneTop(config)
        self.model = Model(self._top)
        self._keys = self.model.source("key")
        self._hash_keys = self.model.source("hash_key")
        self._jobs = self.model.source("job", idle=idle, seed=seed)
        self._beats = self.model.source("i", idle=idle, seed=seed + 1)
        self._texts = self.model.sink("o")
        self._tags = self.model.sink("tag")
        self._random = random.Random(seed)
        self.cycles: list[int] = []

    def load(self, keys: Mapping[int, bytes]) -> None:
        """Load keys by slot."""
        for slot, key in keys.items():
            layout: Any = self._top.key.payload.shape()
            value = {"key": int.from_bytes(key, "little"), "slot": slot}
            self._keys.feed([_pack(layout, value)])
            self.model.run(_KEY_CYCLES)
            self._hash_keys.feed([slot])
            self.model.run(_KEY_CYCLES)

    def run(
        self, chunks: Sequence[Chunk], bursts: Iterable[Burst]
    ) -> tuple[list[bytes], list[bytes]]:
        """Put bursts of chunks through; return texts and tags by chunk.

        Raises
        ------
        BenchError
            If not every beat and tag comes, or a byte comes that no job means.

        """
        nbytes = self.config.data_bits // 8
        jobs, lines, spans, ends = [], [], [], []
        for burst in bursts:
            chunk = chunks[burst.chunk]
            values, line, span = self._job(chunk, burst)
            jobs.append(_pack(self.config.job, values))
            lines += [line[n : n + nbytes] for n in range(0, len(line), nbytes)]
            spans.append((burst.chunk, len(line), span))
            if values["last"]:
                ends.append(burst.chunk)
        self._jobs.feed(jobs)
        self._beats.feed(int.from_bytes(line, "little") for line in lines)
        for _ in range(2 + len(lines) // 4):
            self.model.run(_KEY_CYCLES)
            if len(self._texts) == len(lines) and len(self._tags) == len(ends):
                break
        else:
            raise BenchError(f"{len(self._texts)} of {len(lines)} beats came")
        beats, self.cycles = self._texts.take()
        stream = b"".join(beat.to_bytes(nbytes, "little") for beat in beats)
        texts = [b"" for _ in chunks]
        for number, length, (begin, end) in spans:
            line, stream = stream[:length], stream[length:]
            texts[number] += line[begin:end]
            if any(line[:begin] + line[end:]):
                raise BenchError("Granules that are not meant came out other than zero")
        tags = [b"" for _ in chunks]
        for number, tag in zip(ends, self._tags.take()[0], strict=True):
            tags[number] = tag.to_bytes(BLOCK_BYTES, "little")
        return texts, tags

    def _job(self, chunk: Chunk, burst: Burst) -> tuple[dict[str, int], bytes, tuple[int, int]]:
        """Return a job, its beats, and where in them it is."""
        size, nbytes = self.config.granule, self.config.data_bits // 8
        begin, end = (chunk.place + BLOCK_BYTES * n for n in (burst.begin, burst.end))
        base, top = begin // nbytes * nbytes, -(-end // nbytes) * nbytes
        line = bytearray(self._random.randbytes(top - base))
        line[begin - base : end - base] = chunk.text[
            BLOCK_BYTES * burst.begin : BLOCK_BYTES * burst.end
        ]
        values = {
            "seals": int(chunk.seals),
            "slot": chunk.slot,
            "context": chunk.context,
            "nonce": int.from_bytes(chunk.nonce, "big"),
            "counter": 2 + burst.begin,
            "beats": len(line) // nbytes,
            "first": begin % nbytes // size,
            "end": (end - 1) % nbytes // size + 1,
            "start": int(burst.begin == 0),
            "last": int(burst.end == chunk.blocks),
            "nbytes": len(chunk.text),
        }
        if self.config.granules == 1:
            values |= {"first": 0, "end": 1}
        return values, bytes(line), (begin - base, end - base)
