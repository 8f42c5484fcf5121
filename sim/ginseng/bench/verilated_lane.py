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
from ginseng.isa.formats import NONCE_BYTES

__all__ = ["Burst", "Case", "Chunk", "LaneTop", "VerilatedLane"]

#: Cycles in which the slowest key schedule is through, and a hash key after it.
_KEY_CYCLES = 100
#: Cycles between looks at what has come.
_STEP = 100


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

        expand: Any = self.expand
        lane: Any = self.lane
        m.submodules.expand, m.submodules.lane = expand, lane
        port = lane.port
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


@dataclass(frozen=True, kw_only=True)
class Case:
    """What any user of AES-GCM may ask for: nonce, additional data and text of any length."""

    seals: bool
    key: bytes
    nonce: bytes
    additional: bytes
    text: bytes


@dataclass(frozen=True)
class Burst:
    """Blocks ``begin`` to before ``end`` of chunk number ``chunk``: a job."""

    chunk: int
    begin: int
    end: int


def _pack(layout: data.StructLayout, values: Mapping[str, int]) -> int:
    """Return an item of a layout as a number."""
    return sum(values.get(name, 0) << field.offset for name, field in layout)


class VerilatedLane:
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
            If not every beat and tag comes, or a byte comes other than zero that no job means.

        """
        jobs, spans, ends = [], [], []
        for burst in bursts:
            values, line, span = self._job(chunks[burst.chunk], burst)
            jobs.append((values, line))
            spans.append((burst.chunk, len(line), span))
            if values["last"]:
                ends.append(burst.chunk)
        stream, found = self._through(jobs)
        texts = [b"" for _ in chunks]
        for number, length, (begin, end) in spans:
            line, stream = stream[:length], stream[length:]
            texts[number] += line[begin:end]
            if any(line[:begin] + line[end:]):
                raise BenchError("Granules that are not meant came out other than zero")
        tags = [b"" for _ in chunks]
        for number, tag in zip(ends, found, strict=True):
            tags[number] = tag
        return texts, tags

    def _through(
        self, jobs: Sequence[tuple[Mapping[str, int], bytes]]
    ) -> tuple[bytes, list[bytes]]:
        """Put jobs and their beats through; return the beats that come out, and the tags."""
        nbytes = self.config.data_bits // 8
        self._jobs.feed(_pack(self.config.job, values) for values, _ in jobs)
        stream = b"".join(line for _, line in jobs)
        self._beats.feed(
            int.from_bytes(stream[n : n + nbytes], "little") for n in range(0, len(stream), nbytes)
        )
        beats = sum(len(line) for values, line in jobs if not values.get("hidden")) // nbytes
        tags = sum(values["last"] for values, _ in jobs)
        for _ in range(10 + len(stream) // nbytes):
            if len(self._texts) == beats and len(self._tags) == tags:
                break
            self.model.run(_STEP)
        else:
            raise BenchError(f"{len(self._texts)} of {beats} beats came, {len(self._tags)} tags")
        words, self.cycles = self._texts.take()
        return (
            b"".join(word.to_bytes(nbytes, "little") for word in words),
            [tag.to_bytes(BLOCK_BYTES, "little") for tag in self._tags.take()[0]],
        )

    def run_any(self, cases: Sequence[Case]) -> list[tuple[bytes, bytes]]:
        """Put cases through, each under a key of its own; return texts and tags.

        The lane is general, and has beats of 64 bits.
        """
        results = []
        for start in range(0, len(cases), self.config.aes.slots):
            batch = cases[start : start + self.config.aes.slots]
            self.load({slot: case.key for slot, case in enumerate(batch)})
            long = [n for n, case in enumerate(batch) if len(case.nonce) != NONCE_BYTES]
            jobs = [job for n in long for job in self._parts(n, [(batch[n].nonce, True)], bare=1)]
            firsts = {n: case.nonce + b"\0\0\0\1" for n, case in enumerate(batch)}
            firsts |= dict(zip(long, self._through(jobs)[1], strict=True))
            jobs = []
            for n, case in enumerate(batch):
                mask = int.from_bytes(firsts[n][NONCE_BYTES:], "big")
                jobs += self._parts(
                    n,
                    [(case.additional, True), (case.text, False)],
                    nonce=int.from_bytes(firsts[n][:NONCE_BYTES], "big"),
                    mask=mask,
                    counter=(mask + 1) % (1 << 32),
                    seals=int(case.seals),
                    additional=len(case.additional),
                )
            stream, tags = self._through(jobs)
            for case, tag in zip(batch, tags, strict=True):
                length = len(case.text)
                text, stream = stream[:length], stream[-(-length // BLOCK_BYTES) * BLOCK_BYTES :]
                results.append((text, tag))
        return results

    def _parts(
        self, number: int, texts: Sequence[tuple[bytes, bool]], **values: int
    ) -> list[tuple[dict[str, int], bytes]]:
        """Return the jobs of texts, each hidden or not, that are one chunk: of slot ``number``."""
        room = self.config.burst_beats * self.config.data_bits // 8
        jobs: list[tuple[dict[str, int], bytes]] = []
        counter = values.pop("counter", 0)
        for text, hidden in texts if any(text for text, _ in texts) else [(bytes(1), True)]:
            padded = text.ljust(-(-len(text) // BLOCK_BYTES) * BLOCK_BYTES, b"\0")
            for at in range(0, len(padded), room):
                line = padded[at : at + room]
                job = {
                    **values,
                    "slot": number,
                    "context": number % self.config.contexts,
                    "counter": (counter + at // BLOCK_BYTES) % (1 << 32),
                    "beats": len(line) // (self.config.data_bits // 8),
                    "end": 1,
                    "start": int(not jobs),
                    "last": 0,
                    "hidden": int(hidden),
                    "nbytes": len(texts[-1][0]),
                }
                jobs.append((job | ({"seals": 0} if hidden else {}), line))
        jobs[-1][0]["last"] = 1
        return jobs

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
