"""What the tokens order: a vector clock for every instruction."""

from collections import deque
from dataclasses import dataclass

from ginseng.isa.insn import TOKEN_LIMIT, Opcode, Queue
from ginseng.isa.legality.finding import Finding, Rule
from ginseng.isa.legality.stream import TOKENS, Stream

__all__ = ["Clock", "Order", "Window", "order_stream"]

#: How many instructions of the LOAD, COMPUTE and STORE queue are certain to be complete.
Clock = tuple[int, int, int]

_LOAD, _COMPUTE, _STORE = (queue.value for queue in (Queue.LOAD, Queue.COMPUTE, Queue.STORE))
_NAMES = {queue.value: queue.name for queue in Queue}
#: Token bit -> the queue on the other side, by queue (VTA specification §4).
_PREVIOUS = {_COMPUTE: _LOAD, _STORE: _COMPUTE}
_NEXT = {_LOAD: _COMPUTE, _COMPUTE: _STORE}


@dataclass
class Order:
    """Happens-before: program order in each queue, and k-th push before k-th pop.

    Attributes
    ----------
    clocks : list of Clock
        What is complete before each instruction starts.
    numbers : list of int
        Position of each instruction in its queue, from 0; -1 if it has none.
    members : tuple of three lists
        Stream indices of each queue's instructions.
    outstanding : dict
        By (from, to) queue: most tokens that any execution holds, and the push that makes them so
        many.

    """

    clocks: list[Clock]
    numbers: list[int]
    members: tuple[list[int], list[int], list[int]]
    outstanding: dict[tuple[int, int], tuple[int, int]]


class _Channel:
    """One token counter: the pushes that wait for their pop, and the high-water mark."""

    def __init__(self, source: int, target: int) -> None:
        self.source, self.target = source, target
        self.waiting: deque[tuple[Clock, int]] = deque()
        #: For each push, its instruction and how much of the target's queue surely precedes it.
        self.pushes: list[tuple[int, int]] = []
        #: For each pop, its number in the target's queue.
        self.pops: list[int] = []

    def high_water(self) -> tuple[int, int]:
        """Return the most tokens that any execution holds, and the push that makes them so many.

        Just before the k-th pop there may stand every push that is not ordered after that pop.
        """
        most, culprit, ahead = 0, 0, 0
        for done, pop in enumerate([*self.pops, None]):
            while ahead < len(self.pushes) and (pop is None or self.pushes[ahead][1] <= pop):
                ahead += 1
            if ahead - done > most:
                most, culprit = ahead - done, self.pushes[ahead - 1][0]
        return most, culprit


def order_stream(stream: Stream) -> tuple[Order, list[Finding]]:
    """Follow the tokens of ``stream``; report pops that wait, tokens left over, a bad FINISH."""
    findings: list[Finding] = []
    pairs = ((_LOAD, _COMPUTE), (_COMPUTE, _LOAD), (_COMPUTE, _STORE), (_STORE, _COMPUTE))
    channels = {pair: _Channel(*pair) for pair in pairs}
    current = [[0, 0, 0] for _ in Queue]
    members: tuple[list[int], list[int], list[int]] = ([], [], [])
    clocks: list[Clock] = []
    numbers: list[int] = []
    finishes: list[int] = []
    # Per queue: the channel behind each token bit, None where it has no such neighbour.
    wiring = [
        (
            channels.get((_PREVIOUS.get(queue, -1), queue)),
            channels.get((_NEXT.get(queue, -1), queue)),
            channels.get((queue, _PREVIOUS.get(queue, -1))),
            channels.get((queue, _NEXT.get(queue, -1))),
        )
        for queue in range(3)
    ]
    for index, queue in enumerate(stream.queue):
        if queue < 0:
            clocks.append((0, 0, 0))
            numbers.append(-1)
            continue
        clock = current[queue]
        bits = stream.tokens[index]
        wires = wiring[queue]
        for n in (0, 1):
            channel = wires[n]
            if not bits[n] or channel is None:
                continue
            if not channel.waiting:
                findings.append(
                    Finding(
                        index,
                        Rule.TOKEN_POP,
                        f"{TOKENS[n]} of the {_NAMES[queue]} queue waits for a token of the "
                        f"{_NAMES[channel.source]} queue that no earlier instruction pushes: "
                        f"pop {len(channel.pops) + 1} of {len(channel.pushes)} pushes",
                    )
                )
                continue
            pushed, _ = channel.waiting.popleft()
            channel.pops.append(len(members[queue]))
            for other in range(3):
                if pushed[other] > clock[other]:
                    clock[other] = pushed[other]
        clocks.append((clock[0], clock[1], clock[2]))
        numbers.append(len(members[queue]))
        members[queue].append(index)
        clock[queue] = len(members[queue])
        for n in (2, 3):
            channel = wires[n]
            if bits[n] and channel is not None:
                after = (clock[0], clock[1], clock[2])
                channel.waiting.append((after, index))
                channel.pushes.append((index, after[channel.target]))
        if stream.opcode[index] == Opcode.FINISH:
            finishes.append(index)
    for channel in channels.values():
        if channel.waiting:
            findings.append(
                Finding(
                    channel.waiting[0][1],
                    Rule.TOKEN_LEFT,
                    f"{len(channel.waiting)} tokens from the {_NAMES[channel.source]} to the "
                    f"{_NAMES[channel.target]} queue, from this push on, are never popped; "
                    "counters must end at 0",
                )
            )
    findings.extend(_finish(stream, finishes, clocks, members))
    outstanding = {pair: channel.high_water() for pair, channel in channels.items()}
    findings.extend(
        Finding(
            index,
            Rule.TOKEN_LIMIT,
            f"up to {most} tokens from the {_NAMES[source]} to the {_NAMES[target]} queue may be "
            f"outstanding, a counter holds {TOKEN_LIMIT}",
        )
        for (source, target), (most, index) in outstanding.items()
        if most > TOKEN_LIMIT
    )
    return Order(clocks, numbers, members, outstanding), findings


def _finish(
    stream: Stream,
    finishes: list[int],
    clocks: list[Clock],
    members: tuple[list[int], list[int], list[int]],
) -> list[Finding]:
    last = stream.count - 1
    findings = [
        Finding(index, Rule.FINISH, f"FINISH stands last, at {last}, not before other instructions")
        for index in finishes
        if index != last
    ]
    if not finishes or finishes[-1] != last:
        findings.append(
            Finding(stream.count, Rule.FINISH, "the stream does not end with FINISH; append one")
        )
        return findings
    for queue in (_LOAD, _STORE):
        done, count = clocks[last][queue], len(members[queue])
        if done < count:
            findings.append(
                Finding(
                    last,
                    Rule.FINISH,
                    f"FINISH is ordered after {done} of {count} instructions of the "
                    f"{_NAMES[queue]} queue; instruction {members[queue][done]} may still run",
                )
            )
    return findings


class Window:
    """The accesses of one queue that are not yet ordered before another queue's next instruction.

    A queue's clock never falls, so accesses leave in the order in which they came, and their union
    is kept by two stacks: every operation costs amortised constant many unions. Sets are integers,
    bit n for element n.
    """

    def __init__(self) -> None:
        self._front: list[tuple[int, int, int]] = []
        self._back: list[tuple[int, int]] = []
        self._back_union = 0

    def add(self, number: int, bits: int) -> None:
        """Note that instruction ``number`` of the queue touches ``bits``."""
        self._back.append((number, bits))
        self._back_union |= bits

    def pending(self, complete: int) -> int:
        """Drop all but the accesses of instructions ``complete`` and later; return their union."""
        front = self._front
        while front and front[-1][0] < complete:
            front.pop()
        if not front and self._back and self._back[0][0] < complete:
            union = 0
            for number, bits in reversed(self._back):
                if number < complete:
                    break
                union |= bits
                front.append((number, bits, union))
            self._back.clear()
            self._back_union = 0
        return (front[-1][2] if front else 0) | self._back_union

    def culprit(self, element: int) -> int:
        """Return the number of the first pending instruction that touches ``element``."""
        for number, bits, *_ in (*reversed(self._front), *self._back):
            if bits >> element & 1:
                return number
        raise KeyError(element)
