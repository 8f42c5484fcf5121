"""The memory side of the cycle model: bursts of five clients on one bus.

Each client has its transfers cut into bursts, in order, and asks for a burst once its buffer has
room for all of it. Reads are taken in the order in which they are asked for. When a burst is taken
everything about it is known: when its beats come, when the core has drained them.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Final

from ginseng.compiler.backend.cost import CostModel
from ginseng.compiler.backend.segment import Access, Segment, runs
from ginseng.isa.formats import chunk_place
from ginseng.isa.transfer import Client

__all__ = ["STORE_BEATS", "Agenda", "Dma", "Transfer", "cut"]

_PAGE: Final = 4096
#: Longest burst of a store behind a TEC, in beats: all of it waits there.
STORE_BEATS: Final = 128


class Agenda:
    """What happens when: calls in the order of their times, equal times in the order of adding."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Callable[[int], None]]] = []
        self._count = 0

    def at(self, time: int, call: Callable[[int], None]) -> None:
        """Have ``call(time)`` happen."""
        self._count += 1
        heappush(self._heap, (time, self._count, call))

    def run(self) -> int:
        """Make everything happen; return the time of the last."""
        now = 0
        while self._heap:
            now, _, call = heappop(self._heap)
            call(now)
        return now


def _pieces(begin: int, end: int, model: CostModel, most: int, tag: int = 0) -> Iterator[int]:
    """Yield the beats of each burst of the bytes ``begin`` to ``end - 1``, ``most`` at most.

    ``tag`` bytes behind them lengthen the last burst as far as the bus allows.
    """
    limit = most * model.beat_bytes
    begin -= begin % model.beat_bytes
    while begin < end:
        stop = min(begin + limit, begin - begin % _PAGE + _PAGE, end)
        joins = stop % _PAGE and stop + tag - begin <= model.burst_beats * model.beat_bytes
        if stop == end and joins:
            stop, tag = stop + tag, 0
        yield model.beats(stop - begin)
        begin = stop
    if tag:
        yield model.beats(tag)


def cut(access: Access, segment: Segment, model: CostModel, *, stores: bool = False) -> list[int]:
    """Return the beats of each burst of a transfer; with a TEC of each whole chunk and its tag."""
    begins, ends = runs([access])
    bursts: list[int] = []
    if not model.protect:
        for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
            bursts += _pieces(begin, end, model, model.burst_beats)
        return bursts
    chunk = segment.chunk
    most = min(STORE_BEATS, model.burst_beats) if stores else model.burst_beats
    spans: list[tuple[int, int]] = []
    for begin, end in zip((begins // chunk).tolist(), (-(-ends // chunk)).tolist(), strict=True):
        # A chunk that ends one row and begins the next comes once.
        if spans and spans[-1][0] <= begin <= spans[-1][1]:
            spans[-1] = (spans[-1][0], max(end, spans[-1][1]))
        else:
            spans.append((begin, end))
    for first, last in spans:
        for index in range(first, last):
            place = chunk_place(index, chunk)
            size = min(chunk, segment.length - index * chunk)
            bursts += _pieces(place, place + size, model, most, model.tag_bytes)
    return bursts


@dataclass(eq=False, slots=True)
class Transfer:
    """Bursts of one descriptor.

    Attributes
    ----------
    client : Client
    bursts : list of int
        Beats of each.
    work : int
        Cycles that the core takes to write what the transfer brings, padding included; a store's
        to read it.
    asked, done : callable
        Called when the last burst is asked for, and when the last byte is in its place, verified
        or answered.

    """

    client: Client
    bursts: list[int]
    work: int
    asked: Callable[[int], None]
    done: Callable[[int], None]
    ready: int = 0
    next: int = 0


@dataclass(eq=False, slots=True)
class _Port:
    """One client's transfers, those whose bursts are not all asked for first."""

    queue: deque[Transfer] = field(default_factory=deque)
    #: When each burst that still fills the buffer will have left it, and its beats.
    buffered: deque[tuple[int, int]] = field(default_factory=deque)
    level: int = 0
    drained: int = 0
    waiting: bool = False


class Dma:
    """The bus and its clients.

    Attributes
    ----------
    busy : int
        Cycles in which the bus moved beats.

    """

    def __init__(self, model: CostModel, agenda: Agenda) -> None:
        self.busy = 0
        self._model: Final = model
        self._agenda: Final = agenda
        self._ports: Final = {client: _Port() for client in Client}
        self._buffer: Final = max(2 * model.burst_beats, model.core.buffer)
        self._bus = 0
        self._write_bus = 0
        self._address = -1
        self._reads: Final[deque[int]] = deque()
        self._writes: Final[deque[int]] = deque()

    def pending(self, client: Client) -> int:
        """Return how many transfers of a client are not all asked for."""
        return len(self._ports[client].queue)

    def start(self, transfer: Transfer, time: int) -> None:
        """Begin a transfer whose first address can be given at ``time``."""
        port = self._ports[transfer.client]
        transfer.ready = time
        port.queue.append(transfer)
        if not port.waiting:
            port.waiting = True
            self._agenda.at(time, lambda now: self._ask(port, now))

    def _ask(self, port: _Port, now: int) -> None:
        """Take the port's next burst, now or as soon as it can be."""
        transfer = port.queue[0]
        beats = transfer.bursts[transfer.next]
        writes = transfer.client is Client.STORE
        limit, window = (
            (self._model.writes, self._writes) if writes else (self._model.reads, self._reads)
        )
        earliest = max(now, transfer.ready)
        if not writes:
            earliest = max(earliest, self._address + 1)
        while len(window) >= limit:
            if window[0] > earliest:
                earliest = window[0]
                break
            window.popleft()
        while port.buffered and (
            port.buffered[0][0] <= earliest or port.level + beats > self._buffer
        ):
            left, size = port.buffered.popleft()
            earliest = max(earliest, left)
            port.level -= size
        if earliest > now:
            self._agenda.at(earliest, lambda time: self._ask(port, time))
            return
        end = (
            self._write(transfer, beats, now) if writes else self._read(port, transfer, beats, now)
        )
        transfer.next += 1
        self.busy += beats
        if transfer.next == len(transfer.bursts):
            port.queue.popleft()
            self._agenda.at(now + 1, transfer.asked)
            self._agenda.at(end + (0 if writes else self._model.verify), transfer.done)
        if port.queue:
            self._agenda.at(now + 1, lambda time: self._ask(port, time))
        else:
            port.waiting = False

    def _read(self, port: _Port, transfer: Transfer, beats: int, now: int) -> int:
        """Return when the core will have written a burst."""
        memory = self._model.memory
        self._address = now
        if memory.serial:
            begin = max(self._bus, now + 1) + memory.latency
        else:
            begin = max(self._bus, now + 1 + memory.latency)
        self._bus = begin + beats
        self._reads.append(self._bus)
        # Padding is spread over the transfer.
        total = len(transfer.bursts)
        work = transfer.work * (transfer.next + 1) // total - transfer.work * transfer.next // total
        port.drained = max(max(port.drained, begin + 2) + max(work, beats), self._bus + 2)
        port.buffered.append((port.drained, beats))
        port.level += beats
        return port.drained

    def _write(self, transfer: Transfer, beats: int, now: int) -> int:
        """Return when the response to a burst comes."""
        memory = self._model.memory
        if memory.serial:
            self._bus = max(self._bus, now + 1) + memory.latency + beats
            answer = self._bus + 1
        else:
            self._write_bus = max(self._write_bus, now + 1) + beats
            answer = self._write_bus + memory.latency + 1
        self._writes.append(answer)
        # The next burst's data follow at one beat per cycle.
        transfer.ready = max(transfer.ready, now) + beats
        return answer
