"""Instructions under way in the compute queue: what each waits for, and their retirement."""

from typing import Any, Final

from amaranth import Cat, Module, Mux, Signal, unsigned
from amaranth.lib import data, enum, wiring
from amaranth.lib.wiring import In, Out

from ginseng.isa.config import CoreConfig, Memory

__all__ = ["COMPARED_BITS", "WINDOW", "Event", "Scoreboard", "Unit", "claim_layout"]

#: Instructions under way, each named by a tag; a power of two.
WINDOW: Final = 16
#: Upper bits of an index that are compared, so that ranges a little apart conflict too. A lookup
#: table compares three.
COMPARED_BITS: Final = {Memory.ACC: 9, Memory.UOP: 6}


class Unit(enum.IntEnum, shape=2):
    """Who executes an instruction; each unit executes its own in order."""

    LOAD = 0
    GEMM = 1
    ALU = 2
    RESET = 3


def _range(bits: int) -> data.StructLayout:
    """Elements ``first`` to ``last``, if ``any``."""
    return data.StructLayout({"any": 1, "first": unsigned(bits), "last": unsigned(bits)})


def claim_layout(config: CoreConfig) -> data.StructLayout:
    """Return what is known of an instruction when it is issued.

    ``writes`` are accumulators; ``reads`` those that an ALU reads beside (of other units it does
    not count), ``uops`` the micro-ops that a GEMM or ALU reads or a LOAD writes. ``executes`` and
    ``verifies`` say which events it takes before it is complete.
    """
    acc = _range(config.log_depth(Memory.ACC))
    return data.StructLayout(
        {
            "unit": Unit,
            "writes": acc,
            "reads": acc,
            "uops": _range(config.log_depth(Memory.UOP)),
            "executes": 1,
            "verifies": 1,
            "push_prev": 1,
            "push_next": 1,
        }
    )


class Event(data.Struct):
    """Something happened to an instruction."""

    valid: 1
    tag: range(WINDOW)


def _coarse(config: CoreConfig, memory: Memory) -> data.StructLayout:
    """Return what is kept of a range."""
    return _range(min(config.log_depth(memory), COMPARED_BITS[memory]))


def _keep(m: Module, kept: Any, given: Any) -> None:
    """Keep the upper bits of a range."""
    m.d.comb += kept.any.eq(given.any)
    for end in ("first", "last"):
        m.d.comb += kept[end].eq(given[end][len(given[end]) - len(kept[end]) :])


def _meet(a: Any, b: Any) -> Any:
    return a.any & b.any & (a.first <= b.last) & (b.first <= a.last)


class Scoreboard(wiring.Component):
    """Says which instructions may start, and retires them in the order in which they came.

    An instruction is ``ready`` once every older one of another unit with which it conflicts is
    complete: one writes accumulators that the other reads or writes, or it loads micro-ops that
    the other reads. Only the upper bits of an index are compared: of what is close, more conflicts.
    What loads and reads micro-ops in that order must be kept apart outside (a reader is not issued
    while ``loading``). Of one unit, instructions are assumed to take effect in order. An event
    counts from the next cycle on.

    Parameters
    ----------
    config : CoreConfig

    """

    def __init__(self, config: CoreConfig) -> None:
        self.config = config
        super().__init__(
            {
                #: In: an instruction is issued, only while there is ``room``; out: its tag.
                "issue": In(1),
                "claim": In(claim_layout(config)),
                "room": Out(1),
                "tag": Out(range(WINDOW)),
                #: Out: by tag, whether it may start.
                "ready": Out(WINDOW),
                #: In: an instruction has made its last write, one event per unit; a LOAD's bytes
                #: are verified.
                "executed": In(data.ArrayLayout(Event, len(Unit))),
                "verified": In(Event),
                #: In: complete nothing.
                "halt": In(1),
                #: Out: a LOAD of micro-ops is not complete.
                "loading": Out(1),
                #: Out: for one cycle, an instruction retires, and its tokens.
                "retired": Out(1),
                "push_prev": Out(1),
                "push_next": Out(1),
                #: Out: nothing is under way.
                "empty": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()

        # An ALU reads accumulators beside those that it writes, and no other unit does. What any
        # other unit writes is compared with what the ALU reads, so that one comparison serves both
        # directions.
        acc, uops = _coarse(self.config, Memory.ACC), _coarse(self.config, Memory.UOP)
        flags = ("executes", "verifies", "push_prev", "push_next")
        claim: Any = Signal(
            data.StructLayout(
                {"unit": Unit, "writes": acc, "others": acc, "uops": uops} | dict.fromkeys(flags, 1)
            )
        )
        given = self.claim
        _keep(m, claim.writes, given.writes)
        with m.If(given.unit == Unit.ALU):
            _keep(m, claim.others, given.reads)
        with m.Else():
            _keep(m, claim.others, given.writes)
        _keep(m, claim.uops, given.uops)
        m.d.comb += [claim[k].eq(given[k]) for k in ("unit", *flags)]

        count = range(WINDOW)
        claims: list[Any] = [Signal(claim.shape(), name=f"claim_{n}") for n in count]
        busy, complete = Signal(WINDOW), Signal(WINDOW)
        waits = [Signal(WINDOW, name=f"waits_{n}") for n in count]
        head, tail = Signal(range(WINDOW)), Signal(range(WINDOW))
        conflicts = Signal(WINDOW)

        # Bits of ``executes`` and ``verifies`` go out as their events come.
        for n, held in enumerate(claims):
            executed = Cat(event.valid & (event.tag == n) for event in self.executed).any()
            with m.If(executed):
                m.d.sync += held.executes.eq(0)
            with m.If(self.verified.valid & (self.verified.tag == n)):
                m.d.sync += held.verifies.eq(0)
            m.d.comb += [
                complete[n].eq(busy[n] & ~held.executes & ~held.verifies & ~self.halt),
                conflicts[n].eq(
                    busy[n]
                    & ~complete[n]
                    & (held.unit != claim.unit)
                    & (
                        _meet(claim.writes, held.writes)
                        | _meet(claim.others, held.others)
                        | ((claim.unit == Unit.LOAD) & _meet(claim.uops, held.uops))
                    )
                ),
                self.ready[n].eq((waits[n] & ~complete) == 0),
            ]

        m.d.comb += [
            self.tag.eq(tail),
            self.room.eq(~busy.bit_select(tail, 1)),
            self.empty.eq(busy == 0),
            self.loading.eq(
                Cat(
                    b & ~c & (held.unit == Unit.LOAD) & held.uops.any
                    for b, c, held in zip(busy, complete, claims, strict=True)
                ).any()
            ),
            self.retired.eq(complete.bit_select(head, 1)),
        ]
        with m.Switch(head):
            for n, held in enumerate(claims):
                with m.Case(n):
                    m.d.comb += [
                        self.push_prev.eq(self.retired & held.push_prev),
                        self.push_next.eq(self.retired & held.push_next),
                    ]
        m.d.sync += [
            busy.eq((busy & ~Mux(self.retired, 1 << head, 0)) | Mux(self.issue, 1 << tail, 0)),
            head.eq(head + self.retired),
            tail.eq(tail + self.issue),
        ]
        with m.If(self.issue), m.Switch(tail):
            for n, held in enumerate(claims):
                with m.Case(n):
                    m.d.sync += [held.eq(claim), waits[n].eq(conflicts)]
        # Nothing conflicts with what is complete, so that this takes back no wait that begins: it
        # is the reset of a flip-flop.
        for n, finished in enumerate(complete):
            with m.If(finished):
                m.d.sync += [waiting[n].eq(0) for waiting in waits]

        return m
