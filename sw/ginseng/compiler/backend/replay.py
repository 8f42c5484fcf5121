"""Plays the finished stream against the cycle model: cycles and bytes of every layer.

The machine is that of the gates, instruction by instruction and burst by burst: instructions are
fetched and dispatched in order into three queues; the compute queue issues in order to units that
run side by side as long as their accumulators differ, and retires in order; loads are issued
ahead of their completions. Steps are not simulated: a GEMM or ALU takes one cycle for each.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from ginseng.compiler.backend.cost import CostModel
from ginseng.compiler.backend.dma import Agenda, Dma, Transfer, cut
from ginseng.compiler.backend.hazards import Unit, alternates, conflict, loads_uops, unit_of
from ginseng.compiler.backend.instruction import CHANNELS, Insn
from ginseng.isa.config import CoreConfig, Memory
from ginseng.isa.insn import INSN_BYTES, Opcode, Queue
from ginseng.isa.transfer import Client

__all__ = ["LayerCost", "replay"]

#: Transfers of a client that its port takes before their bursts are asked for.
_PLANNED: Final = {Client.INP: 4, Client.WGT: 4, Client.COMPUTE: 4, Client.STORE: 2}


@dataclass(slots=True)
class LayerCost:
    """What one layer takes.

    Attributes
    ----------
    cycles : int
        From the end of its predecessor to its own.
    nbytes : int
        Of DRAM traffic, instructions, tags and whole chunks included.
    instructions : int
    gemm, alu, bus : int
        Cycles in which GEMM works, ALU works, and the bus is taken.

    """

    cycles: int = 0
    nbytes: int = 0
    instructions: int = 0
    gemm: int = 0
    alu: int = 0
    bus: int = 0


@dataclass(eq=False, slots=True)
class _Flight:
    """An instruction from its issue to its retirement."""

    insn: Insn
    unit: Unit = Unit.NONE
    issued: int = 0
    done: bool = False


@dataclass(eq=False, slots=True)
class _Lane:
    """A unit of the compute queue: what waits for it, what it works on, until when."""

    waiting: deque[_Flight] = field(default_factory=deque)
    running: Insn | None = None
    free: int = 0
    #: When it is looked at next, if that is settled.
    look: int | None = None


def replay(
    insns: Sequence[Insn], config: CoreConfig, model: CostModel, *, layers: int
) -> list[LayerCost]:
    """Return the cost of each of ``layers`` layers.

    Parameters
    ----------
    insns : sequence of Insn
        In stream order, with tokens.
    config : CoreConfig
        Depths and element sizes.
    model : CostModel
        Cycles of the units, the bus and the memory.
    layers : int
        How many there are; each instruction names its own.

    """
    machine = _Machine(insns, config, model, layers)
    machine.agenda.run()
    if machine.retired != len(insns):
        raise AssertionError(f"the stream stands still after {machine.retired} instructions")
    previous = 0
    for cost, end in zip(machine.costs, machine.ends, strict=True):
        end = max(previous, end)
        cost.cycles, previous = end - previous, end
    return machine.costs


class _Machine:
    """The core: what it has fetched, queued and started."""

    def __init__(
        self, insns: Sequence[Insn], config: CoreConfig, model: CostModel, layers: int
    ) -> None:
        self.agenda: Final = Agenda()
        self.costs: Final = [LayerCost() for _ in range(layers)]
        self.ends: Final = [0] * layers
        self.retired = 0
        self._insns: Final = insns
        self._config: Final = config
        self._model: Final = model
        self._core: Final = model.core
        self._half: Final = config.depth(Memory.ACC) // 2
        self._dma: Final = Dma(model, self.agenda)
        self._asked = self._fetched = self._dispatched = 0
        self._queues: Final = {queue: deque[Insn]() for queue in Queue}
        self._flights: Final = {queue: deque[_Flight]() for queue in Queue}
        self._tokens: Final = dict.fromkeys(CHANNELS, 0)
        #: When each queue can start its next instruction.
        self._free: Final = dict.fromkeys(Queue, 0)
        self._lanes: Final = {unit: _Lane() for unit in Unit}
        self._wakes: Final[dict[Queue, Callable[[int], None]]] = {
            Queue.LOAD: self._load,
            Queue.COMPUTE: self._compute,
            Queue.STORE: self._store,
        }
        self.agenda.at(0, self._fetch)

    # ---------------------------------------------------------------- fetch and dispatch

    def _fetch(self, now: int) -> None:
        """Ask for the next instructions if there is room for a whole fetch."""
        room = 2 * self._core.fetch - (self._asked - self._dispatched)
        count = min(self._core.fetch, len(self._insns) - self._asked)
        if not count or room < self._core.fetch:
            return
        self._asked += count
        beats = self._model.beats(count * INSN_BYTES + self._model.tag_bytes)
        limit = self._model.burst_beats
        bursts = [min(limit, beats - at) for at in range(0, beats, limit)]

        def arrive(time: int) -> None:
            self._fetched += count
            self._dispatch(time)

        transfer = Transfer(Client.FETCH, bursts, beats, self._fetch, arrive)
        self._dma.start(transfer, now + self._core.load_address)

    def _dispatch(self, now: int) -> None:
        """Give fetched instructions to their queues, in order, as far as there is room."""
        while self._dispatched < self._fetched:
            insn = self._insns[self._dispatched]
            queue = self._queues[insn.queue]
            if len(queue) >= self._core.queue_depth:
                return
            queue.append(insn)
            self._dispatched += 1
            if len(queue) == 1:
                self.agenda.at(now + 1, self._wakes[insn.queue])
            if self._asked - self._dispatched == self._core.fetch:
                self._fetch(now)

    def _next(self, queue: Queue, now: int) -> Insn | None:
        """Return the instruction that a queue can start now, by its turn and its tokens."""
        if now < self._free[queue]:
            # `_begin` has it looked at again then.
            return None
        if not self._queues[queue]:
            return None
        insn = self._queues[queue][0]
        for channel, (_, pop) in CHANNELS.items():
            if channel[1] is queue and insn.fields.get(pop) and not self._tokens[channel]:
                return None
        return insn

    def _begin(self, queue: Queue, flight: _Flight, now: int, cycles: int) -> None:
        """Take the head of a queue, and its tokens; the queue is busy for ``cycles``."""
        for channel, (_, pop) in CHANNELS.items():
            if channel[1] is queue and flight.insn.fields.get(pop):
                self._tokens[channel] -= 1
        self._queues[queue].popleft()
        self._flights[queue].append(flight)
        self._free[queue] = now + cycles
        self.agenda.at(now + cycles, self._wakes[queue])
        self._dispatch(now)

    def _complete(self, flight: _Flight, now: int) -> None:
        """Note that an instruction has ended; retire what can be, in order."""
        flight.done = True
        queue = flight.insn.queue
        flights = self._flights[queue]
        while flights and flights[0].done:
            insn = flights.popleft().insn
            self.retired += 1
            cost = self.costs[insn.layer]
            cost.instructions += 1
            cost.nbytes += INSN_BYTES
            self.ends[insn.layer] = max(self.ends[insn.layer], now)
            for channel, (push, _) in CHANNELS.items():
                if channel[0] is queue and insn.fields.get(push):
                    self._tokens[channel] += 1
                    self.agenda.at(now + 1, self._wakes[channel[1]])
        self.agenda.at(now + 1, self._wakes[queue])
        if queue is Queue.COMPUTE:
            for unit, lane in self._lanes.items():
                if lane.waiting:
                    self._look(unit, now + 1)

    # ---------------------------------------------------------------- load and store queues

    def _move(self, flight: _Flight, client: Client, ready: int) -> None:
        """Have the bus do what an instruction moves; its first address is given at ``ready``."""
        insn = flight.insn
        assert insn.segment is not None
        fields, queue = insn.fields, insn.queue
        rows, cols = fields["y_size"], fields["x_size"]
        size = self._config.element_bytes(Memory(fields["memory"]))
        work = rows * cols * -(-size // self._model.beat_bytes)
        if insn.opcode is Opcode.LOAD:
            top, bottom, left, right = (
                fields.get(f, 0) for f in ("y_pad_0", "y_pad_1", "x_pad_0", "x_pad_1")
            )
            work += (rows + top + bottom) * (cols + left + right) - rows * cols
        if insn.access is None:
            # Nothing but padding: the bus has no part in it.
            end = ready + work + self._core.load_retire
            self.agenda.at(end, lambda now: self._complete(flight, now))
            self.agenda.at(ready, self._wakes[queue])
            return
        bursts = cut(insn.access, insn.segment, self._model, stores=client is Client.STORE)
        cost = self.costs[insn.layer]
        cost.bus += self._model.occupied(bursts)
        moved = sum(bursts) * self._model.beat_bytes
        cost.nbytes += moved if self._model.protect else insn.access.nbytes
        retire = self._core.store_retire if client is Client.STORE else self._core.load_retire

        def done(time: int) -> None:
            self.agenda.at(time + retire, lambda now: self._complete(flight, now))

        self._dma.start(Transfer(client, bursts, work, self._wakes[queue], done), ready)

    def _load(self, now: int) -> None:
        insn = self._next(Queue.LOAD, now)
        if insn is None or len(self._flights[Queue.LOAD]) >= self._core.flight:
            return
        client = Client.WGT if insn.fields["memory"] == Memory.WGT else Client.INP
        if self._dma.pending(client) >= _PLANNED[client]:
            return
        flight = _Flight(insn)
        self._begin(Queue.LOAD, flight, now, self._core.load_issue)
        self._move(flight, client, now + self._core.load_issue + self._core.load_address)

    def _store(self, now: int) -> None:
        insn = self._next(Queue.STORE, now)
        full = len(self._flights[Queue.STORE]) >= self._model.writes
        if insn is None or full or self._dma.pending(Client.STORE) >= _PLANNED[Client.STORE]:
            return
        beats = self._model.beats(insn.access.nbytes if insn.access else 0)
        flight = _Flight(insn)
        self._begin(Queue.STORE, flight, now, self._core.store_issue + beats)
        gather = min(self._core.gather, beats)
        self._move(flight, Client.STORE, now + self._core.store_issue + gather)

    # ---------------------------------------------------------------- compute queue

    def _compute(self, now: int) -> None:
        """Issue the next instruction to its unit."""
        insn = self._next(Queue.COMPUTE, now)
        flights = self._flights[Queue.COMPUTE]
        if insn is None or len(flights) >= self._core.window:
            return
        unit = unit_of(insn)
        lane = self._lanes[unit]
        if len(lane.waiting) >= self._core.unit_depth or (insn.opcode is Opcode.FINISH and flights):
            return
        if insn.kernel is not None and any(loads_uops(f.insn) and not f.done for f in flights):
            return
        cycles = self._core.compute_issue
        if insn.kernel is not None and insn.kernel.count > 1:
            cycles = insn.kernel.count + self._core.compute_scan
        flight = _Flight(insn, unit, now + cycles)
        self._begin(Queue.COMPUTE, flight, now, cycles)
        if unit is Unit.NONE:
            self.agenda.at(now + cycles, lambda time: self._complete(flight, time))
        else:
            lane.waiting.append(flight)
            self._look(unit, now + cycles)

    def _look(self, unit: Unit, time: int) -> None:
        """Have `_run` look at a unit, unless it will anyway before."""
        lane = self._lanes[unit]
        if lane.look is None or time < lane.look:
            lane.look = time
            self.agenda.at(time, lambda now: self._run(unit, now))

    def _run(self, unit: Unit, now: int) -> None:
        """Start the next instruction of a unit if nothing older is in its way."""
        lane = self._lanes[unit]
        if lane.look is not None and lane.look <= now:
            lane.look = None
        if not lane.waiting:
            return
        flight = lane.waiting[0]
        earliest = max(lane.free, flight.issued + self._core.start)
        if earliest > now:
            self._look(unit, earliest)
            return
        for older in self._flights[Queue.COMPUTE]:
            if older is flight:
                break
            if older.unit is not unit and not older.done and conflict(older.insn, flight.insn):
                return
        lane.waiting.popleft()
        self.agenda.at(now + 1, self._wakes[Queue.COMPUTE])
        insn = flight.insn
        if unit is Unit.LOAD:
            lane.free = now + self._core.load_issue
            self._move(flight, Client.COMPUTE, now + self._core.load_address)
        else:
            lane.free = now + self._work(unit, insn, now)
            lane.running = insn
            drain = {
                Unit.GEMM: self._core.gemm_drain,
                Unit.ALU: self._core.alu_drain,
                Unit.RESET: self._core.reset_drain,
            }[unit]
            self.agenda.at(lane.free + drain, lambda time: self._complete(flight, time))
        if lane.waiting:
            self._look(unit, lane.free)

    def _work(self, unit: Unit, insn: Insn, now: int) -> int:
        """Return the cycles of a walk."""
        cost = self.costs[insn.layer]
        if unit is Unit.GEMM:
            cost.gemm += insn.steps
            return insn.steps
        if unit is Unit.RESET:
            return insn.steps
        cycles = insn.steps * (1 if alternates(insn) else 2)
        # GEMM is never held up; where both work in one half the ALU waits every second cycle. So
        # it does for resets.
        shared = self._shared(Unit.GEMM, insn, now) + self._shared(Unit.RESET, insn, now)
        cycles += min(cycles, shared // 2)
        cost.alu += cycles
        return cycles

    def _shared(self, unit: Unit, insn: Insn, now: int) -> int:
        """Return the cycles for which a unit will work in the half of ACC of an ALU instruction."""
        lane = self._lanes[unit]
        cycles = 0
        if lane.running is not None and lane.free > now:
            if not self._same_half(insn, lane.running):
                return 0
            cycles = lane.free - now
        for flight in lane.waiting:
            if not self._same_half(insn, flight.insn):
                break
            cycles += flight.insn.steps
        return cycles

    def _same_half(self, one: Insn, other: Insn) -> bool:
        return (
            one.writes is not None
            and other.writes is not None
            and one.writes[0] // self._half <= (other.writes[1] - 1) // self._half
            and other.writes[0] // self._half <= (one.writes[1] - 1) // self._half
        )
