"""The compute queue: LOAD of micro-ops and accumulators, GEMM, ALU, FINISH (specification §4)."""

from typing import Any

from amaranth import Cat, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ginseng.bus.port import READ_COUNT_BITS, ReadPort
from ginseng.isa.config import BusConfig, CoreConfig, Memory
from ginseng.isa.insn import (
    INSN_BYTES,
    AluOp,
    MemInsn,
    Opcode,
    alu_layout,
    gemm_layout,
    uop_layout,
)
from ginseng.vta.acc import ReadAccess, WriteAccess, granules
from ginseng.vta.alu import Alu
from ginseng.vta.engine import Engine, piece_bits
from ginseng.vta.gemm import Gemm
from ginseng.vta.retire import Retire
from ginseng.vta.span import Span
from ginseng.vta.walk import Walk

__all__ = ["Compute"]

#: Bits of ``Retire.waits``: a load's last write, its read verified, a walk's last write.
_WRITTEN, _DONE, _WALKED = (1 << n for n in range(3))


class Compute(wiring.Component):
    """Executes the compute queue.

    Results are those of one instruction after the other. GEMM follows GEMM, and ALU follows ALU,
    without gap; between the two the pipeline empties. A load's descriptor is issued while what
    comes before it still runs. Micro-ops are written then unless the running instruction still
    reads them, accumulators when nothing runs; a GEMM or ALU starts when every load before it is
    verified. Micro-ops live here.

    Parameters
    ----------
    config : CoreConfig
    bus : BusConfig
    packed : bool
        As `ginseng.vta.dot.Dot`.
    depth : int
        Instructions under way.

    """

    #: In: instruction words.
    i: stream.Interface

    def __init__(
        self, config: CoreConfig, bus: BusConfig, *, packed: bool = False, depth: int = 8
    ) -> None:
        self.config = config
        self.bus = bus
        self.depth = depth
        self.packed = packed
        index = config.log_depth(Memory.ACC)
        super().__init__(
            {
                "i": In(stream.Signature(unsigned(8 * INSN_BYTES))),
                "memory": Out(ReadPort(bus)),
                #: Out: reads of INP and WGT; in: the elements, in the next cycle.
                "enable": Out(1),
                "inp_address": Out(config.log_depth(Memory.INP)),
                "wgt_address": Out(config.log_depth(Memory.WGT)),
                "inp": In(8 * config.element_bytes(Memory.INP)),
                "wgt": In(8 * config.element_bytes(Memory.WGT)),
                #: Out: accumulators.
                "read_first": Out(ReadAccess(config)),
                "read_second": Out(ReadAccess(config)),
                "write": Out(WriteAccess(config, bus)),
                #: In: reads that memory has taken; out: those that ACC may depend on.
                "issued": In(READ_COUNT_BITS),
                "taint": Out(READ_COUNT_BITS),
                #: In: accumulators that a store holds.
                "hold": In(1),
                "hold_begin": In(index + 1),
                "hold_end": In(index + 1),
                #: In: tokens of the other queues; out: they are popped.
                "load_available": In(1),
                "load_pop": Out(1),
                "store_available": In(1),
                "store_pop": Out(1),
                #: Out: tokens for the other queues.
                "load_push": Out(1),
                "store_push": Out(1),
                #: In: start, write and complete nothing more.
                "halt": In(1),
                #: Out: a GEMM or ALU step is taken; an instruction completed.
                "gemm_step": Out(1),
                "alu_step": Out(1),
                "retired": Out(1),
                #: Out: FINISH is at its turn; high for one cycle after everything before it.
                "finish": Out(1),
                #: Out: nothing is under way, and the next instruction, if any, waits for a token.
                "idle": Out(1),
                #: Out: an illegal instruction was met, or an index out of range, or a write to
                #: accumulators that a store holds; stays until reset.
                "fault": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()

        loadable = [Memory.UOP, Memory.ACC, Memory.ACC_8BIT]
        m.submodules.engine = engine = Engine(self.config, self.bus, loadable, self.depth)
        m.submodules.span = span = Span(self.config)
        m.submodules.retire = retire = Retire(3, self.depth)
        m.submodules.walk = walk = Walk(self.config)
        m.submodules.gemm = gemm = Gemm(self.config, packed=self.packed)
        m.submodules.alu = alu = Alu(self.config)
        uops: Any = memory.Memory(
            shape=uop_layout(self.config), depth=self.config.depth(Memory.UOP), init=[]
        )
        m.submodules.uops = uops

        connect(m, engine.memory, flipped(self.memory))
        connect(m, alu.read_src, flipped(self.read_second))
        walk_written = Signal()
        uop_write, uop_read = uops.write_port(), uops.read_port()
        m.d.comb += [
            uop_read.addr.eq(walk.uop_address),
            uop_read.en.eq(walk.uop_enable),
            walk.uop.eq(uop_read.data),
            walk.halt.eq(self.halt),
            retire.halt.eq(self.halt),
            retire.event.eq(Cat(engine.written, self.memory.done, walk_written)),
            self.retired.eq(retire.retired),
            self.load_push.eq(retire.push_prev),
            self.store_push.eq(retire.push_next),
            self.enable.eq(gemm.enable),
            self.inp_address.eq(gemm.inp_address),
            self.wgt_address.eq(gemm.wgt_address),
            gemm.inp.eq(self.inp),
            gemm.wgt.eq(self.wgt),
        ]

        self._route(m, walk, gemm, alu)
        m.d.comb += walk_written.eq(
            (gemm.write_valid & gemm.write_last) | (alu.write_valid & alu.write_last)
        )

        # What is under way: reads not yet verified, and walks whose last write is still to come.
        reads, walks = Signal(range(self.depth + 3)), Signal(range(self.depth + 3))
        reads_new, walks_new = Signal(), Signal()
        m.d.sync += [
            reads.eq(reads + reads_new - self.memory.done),
            walks.eq(walks + walks_new - walk_written),
        ]

        held = self._write(m, engine, walk, gemm, alu, uop_write, walks == 0)

        insn = Signal(8 * INSN_BYTES)
        refused = self._issue(m, insn, engine, walk, retire, span, reads, reads_new, walks_new)
        with m.If(refused | walk.fault | (held & ~self.halt)):
            m.d.sync += self.fault.eq(1)

        return m

    def _route(self, m, walk, gemm, alu):
        """Give each step to its unit once the other one is empty."""
        step = walk.o
        to_gemm = ~step.payload.is_alu & ~alu.busy
        to_alu = step.payload.is_alu & ~gemm.busy
        m.d.comb += [
            gemm.i.payload.eq(step.payload),
            alu.i.payload.eq(step.payload),
            gemm.i.valid.eq(step.valid & to_gemm),
            alu.i.valid.eq(step.valid & to_alu),
            step.ready.eq((to_gemm & gemm.i.ready) | (to_alu & alu.i.ready)),
            self.gemm_step.eq(gemm.i.valid & gemm.i.ready),
            self.alu_step.eq(alu.i.valid & alu.i.ready),
            self.read_first.enable.eq(gemm.read.enable | alu.read_dst.enable),
            self.read_first.address.eq(
                Mux(gemm.read.enable, gemm.read.address, alu.read_dst.address)
            ),
            gemm.read.grant.eq(self.read_first.grant),
            gemm.read.data.eq(self.read_first.data),
            alu.read_dst.grant.eq(self.read_first.grant),
            alu.read_dst.data.eq(self.read_first.data),
        ]

    def _write(self, m, engine, walk, gemm, alu, uop_write, still):
        """Write accumulators and micro-ops; return whether a store holds what is written."""
        piece = engine.o.payload
        is_uop = piece.memory == Memory.UOP
        still_read = walk.busy & (piece.address >= walk.uop_begin) & (piece.address < walk.uop_end)
        take = engine.o.valid & ~self.halt & Mux(is_uop, ~still_read, still)
        m.d.comb += [
            # Once halted, what memory still gives is thrown away.
            engine.o.ready.eq(self.halt | take),
            uop_write.en.eq(take & is_uop),
            uop_write.addr.eq(piece.address),
            uop_write.data.as_value().eq(piece.data[:32]),
        ]

        lanes = self.config.batch * self.config.block
        parts = granules(self.config, self.bus)
        loaded, mask = Signal(32 * lanes), Signal(parts)
        with m.If(piece.zero):
            m.d.comb += mask.eq(-1)
        with m.Elif(piece.memory == Memory.ACC):
            bits = piece_bits(self.config, self.bus, Memory.ACC)
            m.d.comb += [
                loaded.eq(piece.data[:bits].replicate(parts)),
                mask.eq(1 << piece.index),
            ]
        with m.Else():
            bits = piece_bits(self.config, self.bus, Memory.ACC_8BIT)
            wide = Signal(4 * bits)
            for n in range(bits // 8):
                lane = Signal(signed(32), name=f"widened_{n}")
                m.d.comb += [
                    lane.eq(piece.data.word_select(n, 8).as_signed()),
                    wide.word_select(n, 32).eq(lane),
                ]
            # Widened, a piece fills several granules.
            share = max(1, parts * 4 * bits // (32 * lanes))
            m.d.comb += [
                loaded.eq(wide.replicate(32 * lanes // (4 * bits))),
                mask.eq(((1 << share) - 1) << (piece.index * share)),
            ]

        enable = Signal(parts)
        with m.If(gemm.write_valid):
            m.d.comb += [
                enable.eq(-1),
                self.write.address.eq(gemm.write_address),
                self.write.data.eq(gemm.write_data),
            ]
        with m.Elif(alu.write_valid):
            m.d.comb += [
                enable.eq(-1),
                self.write.address.eq(alu.write_address),
                self.write.data.eq(alu.write_data),
            ]
        with m.Elif(take & ~is_uop):
            m.d.comb += [
                enable.eq(mask),
                self.write.address.eq(piece.address),
                self.write.data.eq(loaded),
            ]
        writes = enable != 0
        held = (
            writes
            & self.hold
            & (self.write.address >= self.hold_begin)
            & (self.write.address < self.hold_end)
        )
        with m.If(~self.halt & ~held):
            m.d.comb += self.write.enable.eq(enable)
        with m.If(writes):
            m.d.sync += self.taint.eq(self.issued)
        return held

    def _issue(self, m, insn, engine, walk, retire, span, reads, reads_new, walks_new):
        """Start instructions in order; return whether one is refused."""
        head = data.View(MemInsn, self.i.payload)
        mem = data.View(MemInsn, insn)
        gemm = data.View(gemm_layout(self.config), insn)
        alu = data.View(alu_layout(self.config), insn)
        is_alu = mem.opcode == Opcode.ALU
        refused = Signal()

        command = walk.i.payload
        m.d.comb += [
            span.insn.eq(mem),
            engine.i.payload.eq(mem),
            retire.i.payload.push_prev.eq(mem.push_prev),
            retire.i.payload.push_next.eq(mem.push_next),
            *(command[k].eq(gemm[k]) for k in ("uop_begin", "uop_end", "iter_out", "iter_in")),
            *(command[k].eq(gemm[k]) for k in ("reset", "dst_factor_out", "dst_factor_in")),
            *(command[k].eq(alu[k]) for k in ("alu_op", "use_imm", "imm")),
            *(
                command[k].eq(Mux(is_alu, alu[k], gemm[k]))
                for k in ("src_factor_out", "src_factor_in")
            ),
            *(command[k].eq(gemm[k]) for k in ("wgt_factor_out", "wgt_factor_in")),
            command.is_alu.eq(is_alu),
        ]

        with m.FSM():
            with m.State("Wait-Tokens"):
                starts = Signal()
                m.d.comb += [
                    starts.eq(
                        ~self.halt
                        & (~head.pop_prev | self.load_available)
                        & (~head.pop_next | self.store_available)
                    ),
                    self.idle.eq(retire.empty & ~(self.i.valid & starts)),
                    self.i.ready.eq(starts),
                ]
                with m.If(self.i.valid & starts):
                    m.d.comb += [
                        self.load_pop.eq(head.pop_prev),
                        self.store_pop.eq(head.pop_next),
                    ]
                    m.d.sync += insn.eq(self.i.payload)
                    with m.If(head.opcode == Opcode.FINISH):
                        m.next = "Finish-Program"
                    with m.Elif(head.opcode != Opcode.LOAD):
                        m.next = "Check-Loop"
                    with m.Elif(head.x_size == 0):
                        m.next = "Skip-Nothing"
                    with m.Else():
                        m.next = "Sum-Extents"

            with m.State("Skip-Nothing"):
                m.d.comb += retire.i.valid.eq(1)
                with m.If(retire.i.ready):
                    m.next = "Wait-Tokens"

            with m.State("Finish-Program"):
                m.d.comb += retire.i.valid.eq(1)
                with m.If(retire.i.ready):
                    m.next = "Await-Retirement"

            with m.State("Await-Retirement"), m.If(retire.empty):
                m.d.comb += self.finish.eq(1)
                m.next = "Wait-Tokens"

            with m.State("Sum-Extents"):
                m.next = "Multiply-Extents"

            with m.State("Multiply-Extents"):
                m.next = "Check-Span"

            with m.State("Check-Span"):
                with m.If(span.outside):
                    m.d.comb += refused.eq(1)
                    m.next = "Stay-Refused"
                with m.Elif(retire.i.ready):
                    m.next = "Issue-Load"

            with m.State("Issue-Load"):
                m.d.comb += [
                    engine.i.valid.eq(1),
                    retire.i.valid.eq(engine.i.ready),
                    retire.i.payload.waits.eq(_WRITTEN),
                ]
                with m.If(mem.y_size != 0):
                    m.d.comb += [
                        retire.i.payload.waits.eq(_WRITTEN | _DONE),
                        reads_new.eq(engine.i.ready),
                    ]
                with m.If(engine.i.ready):
                    m.next = "Wait-Tokens"

            with m.State("Check-Loop"):
                legal = Cat(alu.alu_op == op for op in AluOp).any()
                with m.If(is_alu & ~legal):
                    m.d.comb += refused.eq(1)
                    m.next = "Stay-Refused"
                with m.Elif(
                    (gemm.uop_end <= gemm.uop_begin) | (gemm.iter_out == 0) | (gemm.iter_in == 0)
                ):
                    m.next = "Skip-Nothing"
                with m.Elif(gemm.uop_end > self.config.depth(Memory.UOP)):
                    m.d.comb += refused.eq(1)
                    m.next = "Stay-Refused"
                # Nothing walks before every load is verified; nothing is loaded while we wait.
                with m.Elif(retire.i.ready & ~engine.busy & (reads == 0)):
                    m.next = "Issue-Walk"

            with m.State("Issue-Walk"):
                m.d.comb += [
                    walk.i.valid.eq(1),
                    walks_new.eq(walk.i.ready),
                    retire.i.valid.eq(walk.i.ready),
                    retire.i.payload.waits.eq(_WALKED),
                ]
                with m.If(walk.i.ready):
                    m.next = "Wait-Tokens"

            with m.State("Stay-Refused"):
                pass

        return refused
