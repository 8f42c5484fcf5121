"""The core: fetch, three in-order queues, four token counters, the store barrier.

VTA specification §3, §4; TEC specification §5.
"""

from collections import deque
from dataclasses import dataclass
from typing import Final

from ginseng.golden.port import Fatal, MemoryPort, Transfer
from ginseng.golden.vta.alu import alu_op, run_alu
from ginseng.golden.vta.gemm import run_gemm
from ginseng.golden.vta.memory import Span, load_span, run_load, run_store, store_span
from ginseng.golden.vta.schedule import Kind, Scheduler, Step, stream_order
from ginseng.golden.vta.scratchpad import Scratchpads
from ginseng.golden.vta.walk import Walk, walk_of
from ginseng.isa.config import CoreConfig, Memory
from ginseng.isa.errors import EncodingError
from ginseng.isa.insn import INSN_BYTES, TOKEN_LIMIT, Instruction, Opcode, Queue, instruction_set
from ginseng.isa.transfer import Client

__all__ = ["FETCH_INSNS", "Core", "Counters"]

#: Instructions per fetch transfer.
FETCH_INSNS: Final = 32

#: Token bit of an instruction, by queue: the counter (from, to) it pops or pushes. What is not
#: here must be zero.
_POPS: Final = {
    Queue.LOAD: {"pop_next": (Queue.COMPUTE, Queue.LOAD)},
    Queue.COMPUTE: {
        "pop_prev": (Queue.LOAD, Queue.COMPUTE),
        "pop_next": (Queue.STORE, Queue.COMPUTE),
    },
    Queue.STORE: {"pop_prev": (Queue.COMPUTE, Queue.STORE)},
}
_PUSHES: Final = {
    Queue.LOAD: {"push_next": (Queue.LOAD, Queue.COMPUTE)},
    Queue.COMPUTE: {
        "push_prev": (Queue.COMPUTE, Queue.LOAD),
        "push_next": (Queue.COMPUTE, Queue.STORE),
    },
    Queue.STORE: {"push_prev": (Queue.STORE, Queue.COMPUTE)},
}
_TOKEN_BITS: Final = ("pop_prev", "pop_next", "push_prev", "push_next")


@dataclass(slots=True)
class Counters:
    """What the core counts in a run; names as in the register map.

    ``cycles`` stays 0: this model has no notion of time.
    """

    cycles: int = 0
    gemm_uops: int = 0
    alu_uops: int = 0
    insns: int = 0


@dataclass(frozen=True, slots=True)
class _Entry:
    """An instruction and its place in the stream."""

    index: int
    insn: Instruction


@dataclass(frozen=True, slots=True)
class _Pending:
    """A LOAD or STORE between its two phases: done once ``verified`` has reached ``mark``."""

    entry: _Entry
    mark: int
    #: What a STORE holds.
    span: Span | None = None


class Core:
    """The VTA core over a memory port.

    `start` names a program, `run` executes it to its FINISH; `enabled` and `step` let a test
    choose every interleaving that the hardware may take. Between two programs scratchpads and
    token counters keep their contents.

    Parameters
    ----------
    config : CoreConfig
    port : MemoryPort
        Answers every transfer; `start` must not be called while reads of an earlier program are
        still to be settled by somebody else.
    strict_finish : bool
        The protected build's rule: FINISH must be the stream's last instruction, with the other
        queues idle and every token counter zero, else it faults. Without it the program is
        complete when FINISH executes, and what is left in the queues is dropped.
    seed : int
        Of the noise that scratchpads hold at power-up.

    Attributes
    ----------
    pads : Scratchpads
    counters : Counters
        Since the last `start`.
    tokens : dict
        Each counter, by the queues (from, to).
    acc_taint : int
        How many reads the contents of ACC may depend on.
    finished : bool
        Whether FINISH has executed since the last `start`.

    """

    def __init__(
        self, config: CoreConfig, port: MemoryPort, *, strict_finish: bool = False, seed: int = 0
    ) -> None:
        self.config: Final = config
        self.port: Final = port
        self.strict_finish: Final = strict_finish
        self.pads: Final = Scratchpads(config, seed)
        self.counters = Counters()
        self.tokens: Final = {c: 0 for pops in _POPS.values() for c in pops.values()}
        self.acc_taint = 0
        self.finished = True
        self._decode: Final = instruction_set(config).decode
        self._queues: Final[dict[Queue, deque[_Entry]]] = {queue: deque() for queue in Queue}
        self._insn_base = self._insn_count = self._fetched = 0
        self._drop()

    def _drop(self) -> None:
        """Forget what is queued or under way."""
        for queue in self._queues.values():
            queue.clear()
        self._insn_count = self._fetched = 0
        self._loads: deque[_Pending] = deque()
        self._compute_load: _Pending | None = None
        self._store: _Pending | None = None

    def clear(self) -> None:
        """Zero INP, WGT and ACC, as the protected build does before every run."""
        for pad in (self.pads.inp, self.pads.wgt, self.pads.acc):
            pad.fill(0)
        self.acc_taint = 0

    def clear_uops(self) -> None:
        """Zero UOP, as the protected build does at BEGIN."""
        self.pads.uop.fill(0)

    def reset(self) -> None:
        """Full reset: queues and tokens empty, every scratchpad and counter zero."""
        self._drop()
        self.clear()
        self.clear_uops()
        self.tokens.update(dict.fromkeys(self.tokens, 0))
        self.counters = Counters()
        self.finished = True

    def start(self, insn_base: int, count: int) -> None:
        """Begin the program of ``count`` instructions at ``insn_base``, in 16-byte units."""
        self._drop()
        self.counters = Counters()
        self._insn_base, self._insn_count = insn_base, count
        self.finished = False

    def run(self, scheduler: Scheduler | None = None) -> None:
        """Step until FINISH has executed.

        Parameters
        ----------
        scheduler : Scheduler or None
            Picks among the enabled steps; by default `stream_order`.

        Raises
        ------
        Fatal
            If the program did what no program may, the port refused, or nothing can move.

        """
        choose = stream_order if scheduler is None else scheduler
        while not self.finished:
            enabled = self.enabled()
            if not enabled:
                raise Fatal("watchdog")
            self._take(choose(enabled))

    def enabled(self) -> list[Step]:
        """Return every step that can be taken now; none of a finished program."""
        steps: list[Step] = []
        if self.finished:
            return steps
        verified = self.port.verified
        if verified < self.port.issued:
            steps.append(Step(Kind.SETTLE))
        if self._loads and verified >= self._loads[0].mark:
            steps.append(Step(Kind.RETIRE, Queue.LOAD, self._loads[0].entry.index))
        if self._compute_load and verified >= self._compute_load.mark:
            steps.append(Step(Kind.RETIRE, Queue.COMPUTE, self._compute_load.entry.index))
        if self._store and verified >= self._store.mark:
            steps.append(Step(Kind.TRANSFER, Queue.STORE, self._store.entry.index))
        for queue, entries in self._queues.items():
            if entries and self._may_issue(queue, entries[0].insn):
                steps.append(Step(Kind.ISSUE, queue, entries[0].index))
        if self._fetched < self._insn_count:
            steps.append(Step(Kind.FETCH))
        return steps

    def step(self, choice: Step) -> None:
        """Take one step that `enabled` offers.

        Raises
        ------
        ValueError
            If it does not.
        Fatal
            As `run`.

        """
        if choice not in self.enabled():
            raise ValueError(f"Core.step takes an enabled step, not {choice}; see Core.enabled()")
        self._take(choice)

    def _take(self, choice: Step) -> None:
        if choice.kind is Kind.SETTLE:
            self.port.settle()
        elif choice.kind is Kind.FETCH:
            self._fetch()
        elif choice.kind is Kind.RETIRE:
            self._retire(choice.queue)
        elif choice.kind is Kind.TRANSFER:
            self._transfer()
        elif choice.queue is not None:
            self._issue(choice.queue, self._queues[choice.queue].popleft())

    def _fetch(self) -> None:
        count = min(FETCH_INSNS, self._insn_count - self._fetched)
        # The fetch client counts 16-byte units whatever the memory field says.
        transfer = Transfer(Memory.UOP, self._insn_base + self._fetched, 1, count, count)
        raw = self.port.read(Client.FETCH, transfer).tobytes()
        for at in range(0, len(raw), INSN_BYTES):
            try:
                insn = self._decode(raw[at : at + INSN_BYTES])
            except EncodingError:
                raise Fatal("illegal opcode") from None
            self._queues[insn.queue].append(_Entry(self._fetched, insn))
            self._fetched += 1

    def _may_issue(self, queue: Queue, insn: Instruction) -> bool:
        """Whether the queue is free for its head and the tokens it pops are there."""
        if queue is Queue.COMPUTE and self._compute_load:
            return False
        if queue is Queue.STORE and self._store:
            return False
        return all(self.tokens[counter] for bit, counter in _POPS[queue].items() if insn[bit])

    def _issue(self, queue: Queue, entry: _Entry) -> None:
        insn = entry.insn
        for bit in _TOKEN_BITS:
            if insn[bit] and bit not in _POPS[queue] and bit not in _PUSHES[queue]:
                raise Fatal(f"{bit} in the {queue.name.lower()} queue")
        for bit, counter in _POPS[queue].items():
            self.tokens[counter] -= insn[bit]
        if queue is Queue.LOAD:
            mark = 0
            if not insn.is_nop:
                run_load(self.pads, self.port, insn, load_span(self.pads, insn))
                mark = self.port.issued
            # Completions are in order: a no-op waits for the loads before it.
            self._loads.append(_Pending(entry, mark))
        elif queue is Queue.STORE and not insn.is_nop:
            # The store barrier: sampled here, `enabled` holds TRANSFER back until it is reached.
            self._store = _Pending(entry, self.acc_taint, store_span(self.pads, insn))
        elif insn.opcode is Opcode.LOAD and not insn.is_nop:
            self._load_compute(entry)
        else:
            if insn.opcode is Opcode.GEMM:
                self._gemm(insn)
            elif insn.opcode is Opcode.ALU:
                self._alu(insn)
            self._complete(queue, entry)
            if insn.opcode is Opcode.FINISH:
                self._finish(entry)

    def _retire(self, queue: Queue | None) -> None:
        if queue is Queue.LOAD:
            self._complete(Queue.LOAD, self._loads.popleft().entry)
        elif self._compute_load:
            pending, self._compute_load = self._compute_load, None
            self._complete(Queue.COMPUTE, pending.entry)

    def _transfer(self) -> None:
        pending = self._store
        if pending and pending.span:
            run_store(self.pads, self.port, pending.entry.insn, pending.span, pending.mark)
            self._store = None
            self._complete(Queue.STORE, pending.entry)

    def _complete(self, queue: Queue, entry: _Entry) -> None:
        for bit, counter in _PUSHES[queue].items():
            self.tokens[counter] += entry.insn[bit]
            if self.tokens[counter] > TOKEN_LIMIT:
                raise Fatal("token counter saturation")
        self.counters.insns += 1

    def _load_compute(self, entry: _Entry) -> None:
        span = load_span(self.pads, entry.insn)
        into_acc = span.memory is not Memory.UOP and span.end > span.begin
        if into_acc and self._held and self._held.overlaps(span.begin, span.end):
            raise Fatal("write to accumulators that a store holds")
        run_load(self.pads, self.port, entry.insn, span)
        if into_acc:
            self.acc_taint = self.port.issued
        self._compute_load = _Pending(entry, self.port.issued)

    def _gemm(self, insn: Instruction) -> None:
        walk = walk_of(self.pads, insn)
        if walk:
            self._claim(walk)
            run_gemm(self.pads, walk, reset=bool(insn["reset"]))
            self.counters.gemm_uops += walk.steps

    def _alu(self, insn: Instruction) -> None:
        op = alu_op(insn["alu_op"])
        walk = walk_of(self.pads, insn)
        if walk:
            self._claim(walk)
            run_alu(self.pads, walk, op, insn["imm"] if insn["use_imm"] else None)
            self.counters.alu_uops += walk.steps

    @property
    def _held(self) -> Span | None:
        """The accumulators of a STORE between its sample and its last beat."""
        return self._store.span if self._store else None

    def _claim(self, walk: Walk) -> None:
        """Note that ``walk`` writes ACC, where it may."""
        self.pads.check(Memory.ACC, walk.last("dst") + 1)
        held = self._held
        if held and any(held.overlaps(dst, dst + 1) for dst in walk.destinations().tolist()):
            raise Fatal("write to accumulators that a store holds")
        self.acc_taint = self.port.issued

    def _finish(self, entry: _Entry) -> None:
        if self.strict_finish:
            if entry.index != self._insn_count - 1:
                raise Fatal("FINISH is not the last instruction")
            if any(self._queues.values()) or self._loads or self._store:
                raise Fatal("FINISH while a queue is busy")
            if any(self.tokens.values()):
                raise Fatal("FINISH with tokens left")
        self.finished = True
