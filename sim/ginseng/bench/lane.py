"""A GCM lane for Amaranth's simulator, on library cryptography, which also checks its user."""

import random
from collections import deque
from collections.abc import Mapping
from typing import Any, Final

from ginseng.bench.errors import BenchError
from ginseng.golden.tec.lane import Sealer
from ginseng.isa.formats import NONCE_BYTES
from ginseng.isa.table import GRANULE

__all__ = ["LaneModel"]

#: Jobs that wait, and cycles from a job to its first pad.
_DEPTH: Final = 4
_LATENCY: Final = 11


class _Chunk:
    """A chunk under way: what makes pads, and what makes the tag."""

    def __init__(self, key: bytes, nonce: int) -> None:
        self.pads = Sealer(key, nonce.to_bytes(NONCE_BYTES, "big"))
        self.tag = Sealer(key, nonce.to_bytes(NONCE_BYTES, "big"))
        self.nonce = nonce
        self.nbytes = 0


class LaneModel:
    """Answers a `LanePort`; use `process` in a simulation.

    Parameters
    ----------
    port : interface of LanePort
        The user's side.
    shapes : TecShapes
    keys : mapping of int to bytes
        By slot.
    stall : float
        Probability that nothing is taken in a cycle.
    seed : int

    Attributes
    ----------
    jobs : list
        All that were taken.

    """

    def __init__(
        self,
        port: Any,
        shapes: Any,
        keys: Mapping[int, bytes],
        *,
        stall: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.port: Final = port
        self.keys: Final = keys
        self.jobs: list[Any] = []
        self._beat: Final = shapes.config.bus.beat_bytes
        self._granule: Final = shapes.granule
        self._stall: Final = stall
        self._rng: Final = random.Random(seed)
        self._chunks: dict[int, _Chunk] = {}

    def _pause(self) -> bool:
        return self._rng.random() < self._stall

    def _require(self, name: str, got: Any, wanted: Any) -> None:
        if got != wanted:
            raise BenchError(f"A lane's job has {name} {got}, not {wanted}")

    def _begin(self, job: Any) -> _Chunk:
        if job.start:
            self._chunks[job.context] = _Chunk(self.keys[job.slot], job.nonce)
        chunk = self._chunks[job.context]
        self._require("nonce", job.nonce, chunk.nonce)
        self._require("counter", job.counter, 2 + chunk.nbytes // GRANULE)
        return chunk

    def _crypt(self, job: Any, chunk: _Chunk, at: int, beat: int) -> int:
        """Return beat ``at`` of a job, whose granules that are not meant are noise."""
        first = job.first * self._granule if at == 0 else 0
        end = job.end * self._granule if at == job.beats - 1 else self._beat
        data = beat.to_bytes(self._beat, "little")[first:end]
        pads = chunk.pads.update(bytes(len(data)))
        other = bytes(a ^ b for a, b in zip(data, pads, strict=True))
        chunk.tag.update(data if job.seals else other)
        chunk.nbytes += len(data)
        noise = bytearray(self._rng.randbytes(self._beat))
        noise[first:end] = other
        return int.from_bytes(noise, "little")

    async def process(self, ctx: Any) -> None:
        """Take jobs and beats, give beats and tags, for ever."""
        port = self.port
        waiting: deque[tuple[int, Any]] = deque()
        tags: deque[tuple[int, bytes]] = deque()
        now, at = 0, 0
        while True:
            takes_job = len(waiting) < _DEPTH and not self._pause()
            takes_beat = bool(waiting) and now >= waiting[0][0] and not self._pause()
            ctx.set(port.job.ready, takes_job)
            ctx.set(port.i.ready, takes_beat)
            _, _, job_valid, job, valid, beat = await ctx.tick().sample(
                port.job.valid, port.job.payload, port.i.valid, port.i.payload
            )
            now += 1
            ctx.set(port.o_valid, takes_beat and valid)
            if takes_beat and valid:
                current = waiting[0][1]
                chunk = self._begin(current) if at == 0 else self._chunks[current.context]
                ctx.set(port.o_data, self._crypt(current, chunk, at, beat))
                ctx.set(port.o_seals, current.seals)
                at += 1
                if at == current.beats:
                    waiting.popleft()
                    at = 0
                    if current.last:
                        self._require("nbytes", current.nbytes, chunk.nbytes)
                        late = now + self._rng.randrange(3, 20)
                        tags.append((late, chunk.tag.finish()))
            ctx.set(port.tag_valid, bool(tags) and now >= tags[0][0])
            if tags and now >= tags[0][0]:
                ctx.set(port.tag, int.from_bytes(tags.popleft()[1], "little"))
            if takes_job and job_valid:
                waiting.append((now + _LATENCY, job))
                self.jobs.append(job)
