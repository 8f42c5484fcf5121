"""The front of the compute queue: checks instructions and issues them in order (spec. §4)."""

from typing import Any

from amaranth import Cat, Module, Mux, Signal, unsigned
from amaranth.lib import data, enum, stream, wiring
from amaranth.lib.wiring import In, Out

from ginseng.isa.config import CoreConfig, Memory
from ginseng.isa.insn import (
    INSN_BYTES,
    AluOp,
    MemInsn,
    Opcode,
    alu_layout,
    gemm_layout,
    uop_layout,
)
from ginseng.vta.reach import Reach
from ginseng.vta.scoreboard import WINDOW, Unit, claim_layout
from ginseng.vta.span import Span
from ginseng.vta.walk import ALU_WALK, GEMM_WALK, RESET_WALK, WalkKind

__all__ = ["Issue"]


class _Kind(enum.IntEnum, shape=3):
    """What an instruction comes down to; the first four are units."""

    LOAD = Unit.LOAD
    GEMM = Unit.GEMM
    ALU = Unit.ALU
    RESET = Unit.RESET
    NOTHING = 4
    FINISH = 5


class Issue(wiring.Component):
    """Takes instructions in order, finds out what they touch, and gives each to its unit.

    An instruction is examined, then waits for its tokens and for room. Examining takes three
    cycles (a load: four), and one for each further micro-op, while the instruction before waits.
    An instruction that reads micro-ops is examined once no LOAD of micro-ops before it is under
    way.

    Parameters
    ----------
    config : CoreConfig

    """

    #: In: instruction words.
    i: stream.Interface

    def __init__(self, config: CoreConfig) -> None:
        self.config = config
        super().__init__(
            {
                "i": In(stream.Signature(unsigned(8 * INSN_BYTES))),
                #: Out: to the units; a load that is not empty, inside its scratchpad.
                "o_load": Out(stream.Signature(MemInsn)),
                "o_gemm": Out(stream.Signature(GEMM_WALK.command(config))),
                "o_alu": Out(stream.Signature(ALU_WALK.command(config))),
                "o_reset": Out(stream.Signature(RESET_WALK.command(config))),
                #: Out: an instruction is issued; its claim. In: there is room; its tag.
                "issue": Out(1),
                "claim": Out(claim_layout(config)),
                "room": In(1),
                "tag": In(range(WINDOW)),
                #: In: a LOAD of micro-ops is not complete; nothing is under way.
                "loading": In(1),
                "empty": In(1),
                #: Out: micro-op to read; in: it is read, and comes in the next cycle.
                "uop_enable": Out(1),
                "uop_address": Out(config.log_depth(Memory.UOP)),
                "uop_grant": In(1),
                "uop": In(uop_layout(config)),
                #: In: tokens of the other queues; out: they are popped.
                "load_available": In(1),
                "load_pop": Out(1),
                "store_available": In(1),
                "store_pop": Out(1),
                #: In: issue nothing more.
                "halt": In(1),
                #: Out: FINISH is at its turn; high for one cycle after everything before it.
                "finish": Out(1),
                #: Out: the next instruction waits for a token; micro-ops are loaded or examined.
                "load_lacks": Out(1),
                "store_lacks": Out(1),
                "examines": Out(1),
                #: Out: nothing is under way, and the next instruction, if any, waits for a token.
                "idle": Out(1),
                #: Out: an illegal instruction was met; stays until reset.
                "fault": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()

        config = self.config
        m.submodules.span = span = Span(config)
        m.submodules.reach = reach = Reach(config)

        # First stage: examine.
        word = Signal(8 * INSN_BYTES)
        valid, examined, refused = Signal(), Signal(), Signal()
        mem = data.View(MemInsn, word)
        gemm = data.View(gemm_layout(config), word)
        alu = data.View(alu_layout(config), word)
        kind = Signal(_Kind)
        claim: Any = Signal(claim_layout(config))

        # Second stage: wait for tokens and room.
        waiting = Signal()
        held_word = Signal(8 * INSN_BYTES)
        held_kind = Signal(_Kind)
        held_claim: Any = Signal(claim_layout(config))
        held_single, held_first = Signal(), Signal(uop_layout(config))
        finishing = Signal()

        moves_on, ends = Signal(), Signal()
        m.d.comb += [
            moves_on.eq(valid & examined & ~waiting),
            # What follows FINISH belongs to nobody.
            ends.eq(
                finishing | (valid & (mem.opcode == Opcode.FINISH)) | (held_kind == _Kind.FINISH)
            ),
            self.i.ready.eq((~valid | moves_on) & ~ends & ~self.fault),
            reach.start.eq(self.i.valid & self.i.ready),
            reach.insn.eq(alu),
            span.insn.eq(mem),
            self.uop_enable.eq(reach.uop_enable),
            self.uop_address.eq(reach.uop_address),
            reach.uop_grant.eq(self.uop_grant),
            reach.uop.eq(self.uop),
        ]
        # The span of a load is there after three cycles.
        age = Signal(2)
        single = self._examine(
            m, valid & (age == 3), mem, gemm, alu, span, reach, kind, claim, examined, refused
        )
        with m.If(moves_on):
            m.d.sync += [
                valid.eq(0),
                waiting.eq(1),
                held_word.eq(word),
                held_kind.eq(kind),
                held_claim.eq(claim),
                held_first.eq(reach.first),
                held_single.eq(single),
            ]
        with m.If(age != 3):
            m.d.sync += age.eq(age + 1)
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [word.eq(self.i.payload), valid.eq(1), age.eq(0)]

        held_loads = waiting & held_claim.uops.any & (held_kind == _Kind.LOAD)
        is_walk = (kind == _Kind.GEMM) | (kind == _Kind.ALU) | (kind == _Kind.RESET)
        m.d.comb += reach.enable.eq(valid & is_walk & ~self.loading & ~held_loads)
        with m.If(refused):
            m.d.sync += self.fault.eq(1)

        # Third: issue.
        head = data.View(MemInsn, held_word)
        go, committed, tokens = Signal(), Signal(), Signal()
        m.d.comb += [
            tokens.eq(
                (~head.pop_prev | self.load_available) & (~head.pop_next | self.store_available)
            ),
            go.eq(waiting & tokens & self.room & ~self.halt),
            self.claim.eq(held_claim),
            self.o_load.payload.eq(head),
            self.load_lacks.eq(waiting & head.pop_prev & ~self.load_available),
            self.store_lacks.eq(waiting & head.pop_next & ~self.store_available),
            self.examines.eq(valid & is_walk & ~examined),
            self.load_pop.eq(self.issue & head.pop_prev),
            self.store_pop.eq(self.issue & head.pop_next),
        ]
        with m.Switch(held_kind):
            with m.Case(_Kind.LOAD):
                # A load offered is not taken back.
                m.d.comb += self.o_load.valid.eq(go | committed)
                m.d.sync += committed.eq(self.o_load.valid & ~self.o_load.ready)
                m.d.comb += self.issue.eq(self.o_load.valid & self.o_load.ready)
            for walk, unit in (
                (_Kind.GEMM, self.o_gemm),
                (_Kind.ALU, self.o_alu),
                (_Kind.RESET, self.o_reset),
            ):
                with m.Case(walk):
                    m.d.comb += [unit.valid.eq(go), self.issue.eq(go & unit.ready)]
            with m.Default():
                m.d.comb += self.issue.eq(go)
        with m.If(self.issue):
            m.d.sync += waiting.eq(0)
            with m.If(held_kind == _Kind.FINISH):
                m.d.sync += [finishing.eq(1), held_kind.eq(_Kind.NOTHING)]
        with m.If(finishing & self.empty):
            m.d.comb += self.finish.eq(1)
            m.d.sync += finishing.eq(0)

        for unit, walked in (
            (self.o_gemm, GEMM_WALK),
            (self.o_alu, ALU_WALK),
            (self.o_reset, RESET_WALK),
        ):
            self._command(m, unit.payload, walked, held_word, held_single, held_first)

        m.d.comb += self.idle.eq(
            self.empty & ~finishing & Mux(waiting, ~tokens, ~valid & ~(self.i.valid & self.i.ready))
        )

        return m

    def _command(
        self, m: Module, command: Any, walk: WalkKind, word: Any, single: Any, first: Any
    ) -> None:
        """Fill in what a unit walks."""
        insn = data.View((alu_layout if walk is ALU_WALK else gemm_layout)(self.config), word)
        copied = [k for k, _ in command.shape() if k not in ("single", "uop", "tag")]
        m.d.comb += [
            *(command[k].eq(insn[k]) for k in copied),
            command.single.eq(single),
            command.uop.eq(first),
            command.tag.eq(self.tag),
        ]

    def _examine(
        self,
        m: Module,
        settled: Any,
        mem: Any,
        gemm: Any,
        alu: Any,
        span: Span,
        reach: Reach,
        kind: Any,
        claim: Any,
        examined: Any,
        refused: Any,
    ) -> Any:
        """Say what the instruction of the first stage is and claims; return if it has one uop."""
        last_uop = gemm.uop_end - 1
        single = last_uop == gemm.uop_begin
        m.d.comb += [
            kind.eq(_Kind.NOTHING),
            examined.eq(1),
            claim.push_prev.eq(mem.push_prev),
            claim.push_next.eq(mem.push_next),
            # Bounds count only with ``any``.
            claim.reads.first.eq(reach.src_first),
            claim.reads.last.eq(reach.src_last),
        ]
        with m.If(mem.opcode == Opcode.FINISH):
            m.d.comb += kind.eq(_Kind.FINISH)
        with m.Elif(mem.opcode == Opcode.LOAD):
            claimed = Mux(mem.memory == Memory.UOP, 0, 1)
            with m.If(mem.x_size != 0):
                m.d.comb += [
                    kind.eq(_Kind.LOAD),
                    examined.eq(settled & ~span.outside),
                    refused.eq(settled & span.outside),
                    claim.executes.eq(1),
                    claim.verifies.eq(mem.y_size != 0),
                    claim.writes.any.eq(claimed & (span.count != 0)),
                    claim.writes.first.eq(mem.sram_base),
                    claim.writes.last.eq(span.end - 1),
                    claim.uops.any.eq(~claimed & (span.count != 0)),
                    claim.uops.first.eq(mem.sram_base),
                    claim.uops.last.eq(span.end - 1),
                ]
        with m.Else():
            is_alu = mem.opcode == Opcode.ALU
            legal = Cat(alu.alu_op == op for op in AluOp).any()
            nothing = (gemm.uop_end <= gemm.uop_begin) | (gemm.iter_out == 0) | (gemm.iter_in == 0)
            beyond = gemm.uop_end > self.config.depth(Memory.UOP)
            m.d.comb += [
                claim.writes.first.eq(reach.dst_first),
                claim.writes.last.eq(reach.dst_last),
                claim.uops.first.eq(gemm.uop_begin),
                claim.uops.last.eq(last_uop),
            ]
            with m.If(is_alu & ~legal):
                m.d.comb += [examined.eq(0), refused.eq(settled)]
            with m.Elif(nothing):
                pass
            with m.Elif(beyond):
                m.d.comb += [examined.eq(0), refused.eq(settled)]
            with m.Else():
                m.d.comb += [
                    examined.eq(reach.done),
                    claim.executes.eq(1),
                    claim.writes.any.eq(1),
                    claim.uops.any.eq(~single),
                ]
                with m.If(is_alu):
                    m.d.comb += [kind.eq(_Kind.ALU), claim.reads.any.eq(~alu.use_imm)]
                with m.Elif(gemm.reset & single):
                    m.d.comb += kind.eq(_Kind.RESET)
                with m.Else():
                    m.d.comb += kind.eq(_Kind.GEMM)
        m.d.comb += claim.unit.eq(kind)
        return single
