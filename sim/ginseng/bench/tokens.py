"""Instruction streams that tokens keep ordered while they grow (VTA specification §4, §11)."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from ginseng.isa.config import CoreConfig, Memory
from ginseng.isa.insn import Opcode, Queue, instruction_set

__all__ = ["Range", "TokenStream"]

#: A token counter, by the queues (from, to).
_Counter: TypeAlias = tuple[Queue, Queue]

_L, _C, _S = Queue.LOAD, Queue.COMPUTE, Queue.STORE

#: Bits that push to, and pop from, the counter (from, to).
_PUSH_BIT: Final = {
    (_L, _C): "push_next",
    (_C, _L): "push_prev",
    (_C, _S): "push_next",
    (_S, _C): "push_prev",
}
_POP_BIT: Final = {
    (_L, _C): "pop_prev",
    (_C, _L): "pop_next",
    (_C, _S): "pop_prev",
    (_S, _C): "pop_next",
}
#: The no-op of each queue, as TVM's runtime emits it.
_NOP: Final = {
    _L: (Opcode.LOAD, Memory.INP),
    _C: (Opcode.LOAD, Memory.UOP),
    _S: (Opcode.STORE, Memory.UOP),
}


@dataclass(frozen=True, slots=True)
class Range:
    """Elements ``begin`` to ``end - 1`` of a scratchpad; bytes of DRAM if ``memory`` is None."""

    memory: Memory | None
    begin: int
    end: int

    def overlaps(self, other: "Range") -> bool:
        """Whether the two share an element."""
        return self.memory is other.memory and self.begin < other.end and other.begin < self.end


@dataclass(slots=True)
class _Placed:
    """An instruction of the stream."""

    opcode: Opcode
    fields: dict[str, int]
    reads: list[Range] = field(default_factory=list)
    writes: list[Range] = field(default_factory=list)
    #: How many instructions of each queue have completed, for certain, when this one starts.
    seen: dict[Queue, int] = field(default_factory=dict)

    def conflicts(self, other: "_Placed") -> bool:
        """Whether the order of the two matters."""
        pairs = (
            (self.writes, other.writes),
            (self.writes, other.reads),
            (self.reads, other.writes),
        )
        return any(a.overlaps(b) for mine, others in pairs for a in mine for b in others)


class TokenStream:
    """A race-free instruction stream without deadlock, which leaves no token.

    An instruction is added with the elements it touches, and gets the tokens that keep it after
    whatever it conflicts with in another queue; no-ops carry those that do not fit. Executed in
    stream order it never waits, so that it has one result whatever the timing.

    Parameters
    ----------
    config : CoreConfig

    """

    def __init__(self, config: CoreConfig) -> None:
        self.config: Final = config
        self._stream: list[_Placed] = []
        self._queues: dict[Queue, list[_Placed]] = {queue: [] for queue in Queue}
        self._seen = {queue: dict.fromkeys(Queue, 0) for queue in Queue}
        #: Of each counter, the positions in the producing queue whose push nobody has popped.
        self._tokens: dict[_Counter, deque[int]] = {counter: deque() for counter in _PUSH_BIT}

    def __len__(self) -> int:
        return len(self._stream)

    def add(
        self,
        queue: Queue,
        opcode: Opcode,
        reads: Iterable[Range] = (),
        writes: Iterable[Range] = (),
        **fields: int,
    ) -> None:
        """Append an instruction, after everything in other queues that it conflicts with.

        Parameters
        ----------
        queue : Queue
            Where ``opcode`` and ``fields`` make dispatch put it.
        opcode : Opcode
            What it does.
        reads, writes : iterable of Range
            What it touches.
        **fields : int
            Fields of the instruction but the token bits.

        """
        new = _Placed(opcode, dict(fields), list(reads), list(writes))
        pops: set[_Counter] = set()
        for other in Queue:
            placed = self._queues[other] if other is not queue else []
            for position in range(len(placed), self._seen[queue][other], -1):
                if placed[position - 1].conflicts(new):
                    self._wait(queue, other, position, pops)
                    break
        self._place(queue, new, pops)

    def nop(self, queue: Queue) -> None:
        """Append a no-op."""
        self._nop(queue, set())

    def push(self, producer: Queue, consumer: Queue) -> None:
        """Let the last instruction of ``producer`` push a token that nobody needs yet.

        Nothing happens if it pushes already, or if there is no such counter or instruction.
        """
        if (producer, consumer) in self._tokens and self._queues[producer]:
            self._push(producer, consumer)

    def finish(self) -> bytes:
        """Pop what is left, append FINISH after everything, and return the encoded stream."""
        for queue in (_L, _S):
            while self._tokens[_C, queue]:
                self._pop(_C, queue)
                self._nop(queue, {(_C, queue)})
        pops: set[_Counter] = set()
        for queue in (_L, _S):
            self._wait(_C, queue, len(self._queues[queue]), pops)
        self._nop(_C, pops)
        self._place(_C, _Placed(Opcode.FINISH, {}), set())
        isa = instruction_set(self.config)
        return b"".join(isa.encode(placed.opcode, **placed.fields) for placed in self._stream)

    def _wait(self, queue: Queue, other: Queue, position: int, pops: set[_Counter]) -> None:
        """Make the next instruction of ``queue`` wait for the first ``position`` of ``other``.

        ``pops`` collects the tokens taken on its behalf.
        """
        if self._seen[queue][other] >= position:
            return
        if (other, queue) not in self._tokens:
            # Load and store have no counter between them: a compute no-op passes the word on.
            relayed: set[_Counter] = set()
            self._wait(_C, other, position, relayed)
            self._nop(_C, relayed)
            self._wait(queue, _C, len(self._queues[_C]), pops)
            return
        while self._seen[queue][other] < position:
            if not self._tokens[other, queue]:
                self._push(other, queue)
            if (other, queue) in pops:
                self._nop(queue, pops)
                pops.clear()
            pops.add((other, queue))
            self._pop(other, queue)

    def _push(self, producer: Queue, consumer: Queue) -> None:
        last = self._queues[producer][-1]
        bit = _PUSH_BIT[producer, consumer]
        if not last.fields.get(bit):
            last.fields[bit] = 1
            self._tokens[producer, consumer].append(len(self._queues[producer]))

    def _pop(self, producer: Queue, consumer: Queue) -> None:
        """Take the oldest token; the consumer now knows what its producer knew."""
        position = self._tokens[producer, consumer].popleft()
        seen = self._seen[consumer]
        for queue, count in self._queues[producer][position - 1].seen.items():
            seen[queue] = max(seen[queue], count)
        seen[producer] = max(seen[producer], position)

    def _nop(self, queue: Queue, pops: set[_Counter]) -> None:
        opcode, memory = _NOP[queue]
        self._place(queue, _Placed(opcode, {"memory": memory}), pops)

    def _place(self, queue: Queue, placed: _Placed, pops: set[_Counter]) -> None:
        """Append ``placed``, which carries the pops of the tokens taken for it."""
        placed.fields |= {_POP_BIT[counter]: 1 for counter in pops}
        placed.seen = dict(self._seen[queue])
        self._queues[queue].append(placed)
        self._stream.append(placed)
        self._seen[queue][queue] = len(self._queues[queue])
