"""An AXI memory for Amaranth's simulator, which also checks the manager's manners."""

import random
from collections import deque
from typing import Any, Final

from ginseng.bus.axi import Response

__all__ = ["AxiMemory", "BusRuleError"]

_PAGE: Final = 4096


async def _handshake(ctx: Any, channel: Any) -> None:
    # Not `until`: a simulation that ends in it leaves an asynchronous generator open.
    ready = 0
    while not ready:
        _, _, ready = await ctx.tick().sample(channel.ready)


class BusRuleError(AssertionError):
    """A manager broke a rule of AXI."""


class AxiMemory:
    """Answers the streams of an `AxiSignature` from a byte array; use `processes` in a simulation.

    Reads of different identifiers are answered in random order, beats of several bursts mixed.

    Parameters
    ----------
    axi : interface of AxiSignature
        The manager's streams.
    memory : bytearray
        Address 0 on; an access outside is answered by DECERR.
    beat_bytes, burst_beats : int
        Of the bus.
    stall : float
        Probability that a channel does nothing in a cycle.
    latency : int
        Cycles, at least, from a read's address to its first beat.
    seed : int

    Attributes
    ----------
    most_reads, most_writes : int
        Bursts that were open at the same time, at most.
    failing : dict
        Address of a beat to the response that it gets.
    premature : bool
        Whether every read burst of several beats ends a beat early.
    response_id : int or None
        The identifier of every response to a write, if not that of the write.

    """

    def __init__(
        self,
        axi: Any,
        memory: bytearray,
        beat_bytes: int,
        burst_beats: int,
        *,
        stall: float = 0.0,
        latency: int = 0,
        seed: int = 0,
    ) -> None:
        self.axi: Final = axi
        self.memory: Final = memory
        self.most_reads = 0
        self.most_writes = 0
        self.failing: dict[int, Response] = {}
        self.premature = False
        self.response_id: int | None = None
        self._beat: Final = beat_bytes
        self._longest: Final = burst_beats
        self._stall: Final = stall
        self._latency: Final = latency
        self._now = 0
        self._rng: Final = random.Random(seed)
        self._reads: dict[int, deque[list[int]]] = {}
        self._writes: deque[tuple[int, int, int]] = deque()
        self._open_writes = 0
        self._answers: deque[tuple[int, int]] = deque()

    @property
    def processes(self) -> tuple[Any, ...]:
        """The background processes, one per channel, and the clock."""
        return (*self.write_processes, self._read_addresses, self._read_data)

    @property
    def write_processes(self) -> tuple[Any, ...]:
        """Those of a manager that only writes."""
        return (self._clock, self._write_addresses, self._write_data, self._responses)

    def _response(self, address: int) -> int:
        if address + self._beat > len(self.memory):
            return int(Response.DECERR)
        return int(self.failing.get(address, Response.OKAY))

    def _pause(self) -> bool:
        return self._rng.random() < self._stall

    async def _requests(self, ctx: Any, channel: Any, take: Any) -> None:
        offered = None
        while True:
            ready = not self._pause()
            ctx.set(channel.ready, ready)
            _, _, valid, request = await ctx.tick().sample(channel.valid, channel.payload)
            now = (request.id, request.address, request.length) if valid else None
            if offered is not None and now != offered:
                raise BusRuleError(f"An offered request {offered} became {now}")
            offered = None if ready else now
            if now is not None and ready:
                number, address, length = now
                end = address + (length + 1) * self._beat
                if address % self._beat or address // _PAGE != (end - 1) // _PAGE:
                    raise BusRuleError(f"A burst from {address:#x} to {end:#x} is not legal")
                if length >= self._longest:
                    raise BusRuleError(f"A burst has {length + 1} beats")
                take(number, address, length + 1)

    async def _read_addresses(self, ctx: Any) -> None:
        def take(number: int, address: int, beats: int) -> None:
            due = self._now + self._latency
            self._reads.setdefault(number, deque()).append([address, beats, due])
            self.most_reads = max(self.most_reads, sum(map(len, self._reads.values())))

        await self._requests(ctx, self.axi.ar, take)

    async def _clock(self, ctx: Any) -> None:
        while True:
            await ctx.tick()
            self._now += 1

    async def _read_data(self, ctx: Any) -> None:
        channel = self.axi.r
        while True:
            waiting = [n for n, queue in self._reads.items() if queue and queue[0][2] <= self._now]
            if not waiting or self._pause():
                ctx.set(channel.valid, 0)
                await ctx.tick()
                continue
            number = self._rng.choice(waiting)
            burst = self._reads[number][0]
            address, beats, due = burst
            last = beats == 1 or (self.premature and beats == 2)
            value = int.from_bytes(self.memory[address : address + self._beat], "little")
            ctx.set(
                channel.payload,
                {
                    "id": number,
                    "data": value,
                    "response": Response(self._response(address)),
                    "last": int(last),
                },
            )
            ctx.set(channel.valid, 1)
            await _handshake(ctx, channel)
            if last:
                self._reads[number].popleft()
            else:
                burst[:] = [address + self._beat, beats - 1, due]

    async def _write_addresses(self, ctx: Any) -> None:
        def take(number: int, address: int, beats: int) -> None:
            self._writes.append((number, address, beats))
            self._open_writes += 1
            self.most_writes = max(self.most_writes, self._open_writes)

        await self._requests(ctx, self.axi.aw, take)

    async def _write_data(self, ctx: Any) -> None:
        channel = self.axi.w
        done, worst = 0, 0
        offered = None
        while True:
            ready = bool(self._writes) and not self._pause()
            ctx.set(channel.ready, ready)
            _, _, valid, beat = await ctx.tick().sample(channel.valid, channel.payload)
            now = (beat.data, beat.strobe, beat.last, beat.id) if valid else None
            if offered is not None and now != offered:
                raise BusRuleError("Offered data changed")
            offered = None if ready else now
            if now is None or not ready:
                continue
            number, address, beats = self._writes[0]
            if bool(beat.last) != (done + 1 == beats) or beat.id != number:
                raise BusRuleError(f"Beat {done} of {beats} of burst {number} is marked wrong")
            at = address + done * self._beat
            worst = max(worst, self._response(at))
            if self._response(at) == Response.OKAY:
                for lane in range(self._beat):
                    if beat.strobe >> lane & 1:
                        self.memory[at + lane] = beat.data >> 8 * lane & 0xFF
            done += 1
            if done == beats:
                self._writes.popleft()
                self._answers.append((number, worst))
                done, worst = 0, 0

    async def _responses(self, ctx: Any) -> None:
        channel = self.axi.b
        while True:
            if not self._answers or self._pause():
                ctx.set(channel.valid, 0)
                await ctx.tick()
                continue
            number, response = self._answers.popleft()
            if self.response_id is not None:
                number = self.response_id
            ctx.set(channel.payload, {"id": number, "response": Response(response)})
            ctx.set(channel.valid, 1)
            await _handshake(ctx, channel)
            self._open_writes -= 1
