"""The compute queue: LOAD of micro-ops and accumulators, GEMM, ALU, FINISH (specification §4)."""

from typing import Any

from amaranth import Cat, Module, Mux, Signal, signed, unsigned
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ginseng.bus.port import READ_COUNT_BITS, ReadPort
from ginseng.flow.queue import Queue
from ginseng.isa.config import BusConfig, CoreConfig, Memory
from ginseng.isa.insn import INSN_BYTES, uop_layout
from ginseng.vta.acc import Claim, ReadAccess, WriteAccess, granules
from ginseng.vta.alu import Alu
from ginseng.vta.engine import Engine, piece_bits
from ginseng.vta.gemm import Gemm
from ginseng.vta.issue import Issue
from ginseng.vta.scoreboard import WINDOW, Scoreboard, Unit
from ginseng.vta.walk import ALU_WALK, GEMM_WALK, RESET_WALK, Walk

__all__ = ["Compute"]


class Compute(wiring.Component):
    """Executes the compute queue.

    Instructions are issued in order to four units that work side by side: loads, GEMM, ALU, and
    resets of one micro-op. Results are those of one instruction after the other: one starts when
    every older one that it conflicts with is complete (`Scoreboard`), and tokens are pushed in
    order. A unit's instructions follow each other without gap. A load's descriptor is given to
    memory when it is issued; it writes when it may. Micro-ops live here.

    Parameters
    ----------
    config : CoreConfig
    bus : BusConfig
    packed : bool
        As `ginseng.vta.dot.Dot`.

    """

    #: In: instruction words.
    i: stream.Interface

    def __init__(self, config: CoreConfig, bus: BusConfig, *, packed: bool = False) -> None:
        self.config = config
        self.bus = bus
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
                #: Out: accumulators; members as of `Accumulators`.
                "gemm_read": Out(ReadAccess(config)),
                "alu_dst": Out(ReadAccess(config)),
                "alu_src": Out(ReadAccess(config)),
                "gemm_coming": Out(Claim(config)),
                "gemm_next": Out(Claim(config)),
                "alu_next": Out(Claim(config)),
                "gemm_write": Out(WriteAccess(config)),
                "alu_write": Out(WriteAccess(config)),
                "other_write": Out(WriteAccess(config, granules(config, bus))),
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
                #: Out: a step of GEMM (also as RESET) or ALU is taken; an instruction completed.
                "gemm_step": Out(1),
                "reset_step": Out(1),
                "alu_step": Out(1),
                "retired": Out(1),
                #: Out: why no step of GEMM or ALU is taken (`ginseng.isa.registers`).
                **{
                    name: Out(1)
                    for name in (
                        "gemm_wait_load",
                        "gemm_wait_store",
                        "gemm_wait_order",
                        "gemm_wait_uops",
                        "alu_wait_order",
                        "alu_wait_bank",
                    )
                },
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

        config = self.config
        loadable = [Memory.UOP, Memory.ACC, Memory.ACC_8BIT]
        m.submodules.issue = issue = Issue(config)
        m.submodules.scoreboard = scoreboard = Scoreboard(config)
        m.submodules.engine = engine = Engine(config, self.bus, loadable, WINDOW)
        m.submodules.gemm_walk = gemm_walk = Walk(config, GEMM_WALK)
        m.submodules.alu_walk = alu_walk = Walk(config, ALU_WALK)
        m.submodules.reset_walk = reset_walk = Walk(config, RESET_WALK)
        m.submodules.gemm = gemm = Gemm(config, packed=self.packed)
        m.submodules.alu = alu = Alu(config)
        # Loads under way: those that still write, and those that memory still verifies.
        m.submodules.writing = writing = Queue(range(WINDOW), WINDOW)
        m.submodules.verifying = verifying = Queue(range(WINDOW), WINDOW)

        connect(m, flipped(self.i), issue.i)
        connect(m, issue.o_load, engine.i)
        connect(m, engine.memory, flipped(self.memory))
        connect(m, gemm.read, flipped(self.gemm_read))
        connect(m, gemm.coming, flipped(self.gemm_coming))
        connect(m, gemm.next, flipped(self.gemm_next))
        connect(m, alu.next, flipped(self.alu_next))
        connect(m, alu.read_dst, flipped(self.alu_dst))
        connect(m, alu.read_src, flipped(self.alu_src))
        connect(m, gemm_walk.o, gemm.i)
        connect(m, alu_walk.o, alu.i)
        m.d.comb += [
            scoreboard.issue.eq(issue.issue),
            scoreboard.claim.eq(issue.claim),
            scoreboard.halt.eq(self.halt),
            issue.room.eq(scoreboard.room),
            issue.tag.eq(scoreboard.tag),
            issue.loading.eq(scoreboard.loading),
            issue.empty.eq(scoreboard.empty),
            issue.halt.eq(self.halt),
            issue.load_available.eq(self.load_available),
            issue.store_available.eq(self.store_available),
            self.load_pop.eq(issue.load_pop),
            self.store_pop.eq(issue.store_pop),
            self.load_push.eq(scoreboard.push_prev),
            self.store_push.eq(scoreboard.push_next),
            self.retired.eq(scoreboard.retired),
            self.finish.eq(issue.finish),
            self.idle.eq(issue.idle),
            self.enable.eq(gemm.enable),
            self.inp_address.eq(gemm.inp_address),
            self.wgt_address.eq(gemm.wgt_address),
            gemm.inp.eq(self.inp),
            gemm.wgt.eq(self.wgt),
        ]

        # Commands wait until the scoreboard lets them start.
        held_back: dict[Unit, Any] = {}
        for unit, source, walk in (
            (Unit.GEMM, issue.o_gemm, gemm_walk),
            (Unit.ALU, issue.o_alu, alu_walk),
            (Unit.RESET, issue.o_reset, reset_walk),
        ):
            queue = Queue(walk.kind.command(config), WINDOW)
            m.submodules[f"{unit.name.lower()}_queue"] = queue
            connect(m, source, queue.i)
            starts = scoreboard.ready.bit_select(queue.o.p.tag, 1) & ~self.halt
            held_back[unit] = queue.o.valid & ~starts
            m.d.comb += [
                walk.i.p.eq(queue.o.p),
                walk.i.valid.eq(queue.o.valid & starts),
                queue.o.ready.eq(walk.i.ready & starts),
                walk.halt.eq(self.halt),
            ]
        issued_load = issue.o_load.valid & issue.o_load.ready
        m.d.comb += [
            writing.i.valid.eq(issued_load),
            writing.i.p.eq(scoreboard.tag),
            writing.o.ready.eq(engine.written),
            verifying.i.valid.eq(issued_load & issue.claim.verifies),
            verifying.i.p.eq(scoreboard.tag),
            verifying.o.ready.eq(self.memory.done),
            scoreboard.executed[Unit.LOAD].valid.eq(engine.written),
            scoreboard.executed[Unit.LOAD].tag.eq(writing.o.p),
            scoreboard.executed[Unit.GEMM].eq(gemm.executed),
            scoreboard.executed[Unit.ALU].eq(alu.executed),
            scoreboard.verified.valid.eq(self.memory.done),
            scoreboard.verified.tag.eq(verifying.o.p),
            self.gemm_step.eq(gemm.i.valid & gemm.i.ready),
            self.alu_step.eq(alu.i.valid & alu.i.ready),
            self.reset_step.eq(reset_walk.o.valid & reset_walk.o.ready),
        ]

        # The first of the reasons that hold counts.
        with m.If(~self.gemm_step):
            with m.If(held_back[Unit.GEMM]):
                m.d.comb += self.gemm_wait_order.eq(1)
            with m.Elif(issue.load_lacks):
                m.d.comb += self.gemm_wait_load.eq(1)
            with m.Elif(issue.store_lacks):
                m.d.comb += self.gemm_wait_store.eq(1)
            with m.Else():
                m.d.comb += self.gemm_wait_uops.eq(issue.examines)
        m.d.comb += [
            self.alu_wait_order.eq(~alu_walk.o.valid & held_back[Unit.ALU]),
            self.alu_wait_bank.eq(alu.i.valid & ~alu.i.ready),
        ]

        # Known a cycle late, and so not yet in the first cycle of a load: what may stays so.
        may_write = Signal()
        m.d.sync += may_write.eq(
            writing.o.valid & scoreboard.ready.bit_select(writing.o.p, 1) & ~engine.written
        )
        uop_written = self._micro_ops(m, issue, gemm_walk, alu_walk, engine, may_write)
        held = self._write(m, engine, may_write, uop_written, gemm, alu, reset_walk, scoreboard)
        faults = Cat(issue.fault, *(w.fault for w in (gemm_walk, alu_walk, reset_walk)), held)
        with m.If(faults.any()):
            m.d.sync += self.fault.eq(1)

        return m

    def _micro_ops(self, m, issue, gemm_walk, alu_walk, engine, may_write):
        """Make UOP: GEMM reads through one port, the ALU and loads share the other."""
        uops: Any = memory.Memory(
            shape=uop_layout(self.config), depth=self.config.depth(Memory.UOP), init=[]
        )
        m.submodules.uops = uops
        first, second, write = uops.read_port(), uops.read_port(), uops.write_port()
        piece = engine.o.payload
        written, on_first, on_second, was_second = Signal(), Signal(), Signal(), Signal()
        address = Signal.like(second.addr)
        m.d.comb += [
            written.eq(
                engine.o.valid & (piece.memory == Memory.UOP) & may_write & ~alu_walk.uop_busy
            ),
            # What is examined takes the port that is free.
            on_first.eq(issue.uop_enable & ~gemm_walk.uop_busy),
            on_second.eq(issue.uop_enable & gemm_walk.uop_busy & ~alu_walk.uop_busy & ~written),
            issue.uop_grant.eq(on_first | on_second),
            issue.uop.eq(Mux(was_second, second.data, first.data)),
            first.addr.eq(Mux(gemm_walk.uop_busy, gemm_walk.uop_address, issue.uop_address)),
            first.en.eq(gemm_walk.uop_enable | on_first),
            gemm_walk.uop.eq(first.data),
            second.en.eq(alu_walk.uop_enable | on_second),
            alu_walk.uop.eq(second.data),
            second.addr.eq(address),
            write.addr.eq(address),
            write.data.as_value().eq(piece.data[:32]),
            write.en.eq(written & ~self.halt),
        ]
        with m.If(alu_walk.uop_busy):
            m.d.comb += address.eq(alu_walk.uop_address)
        with m.Elif(written):
            m.d.comb += address.eq(piece.address)
        with m.Else():
            m.d.comb += address.eq(issue.uop_address)
        m.d.sync += was_second.eq(on_second)
        return written

    def _write(self, m, engine, may_write, uop_written, gemm, alu, reset_walk, scoreboard):
        """Write accumulators; return whether a store holds what is written."""
        piece = engine.o.payload
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

        # A reset goes before a load.
        other = self.other_write
        wants, load_wants = Signal(parts), Signal()
        reset_step = reset_walk.o
        m.d.comb += [
            load_wants.eq(engine.o.valid & (piece.memory != Memory.UOP) & may_write),
            reset_step.ready.eq(other.grant),
            # Once halted, what memory still gives is thrown away.
            engine.o.ready.eq(
                self.halt | uop_written | (load_wants & ~reset_step.valid & other.grant)
            ),
            scoreboard.executed[Unit.RESET].valid.eq(
                reset_step.valid & reset_step.ready & reset_step.p.last
            ),
            scoreboard.executed[Unit.RESET].tag.eq(reset_step.p.tag),
        ]
        with m.If(reset_step.valid):
            m.d.comb += [wants.eq(-1), other.address.eq(reset_step.p.dst)]
        with m.Elif(load_wants):
            m.d.comb += [wants.eq(mask), other.address.eq(piece.address), other.data.eq(loaded)]

        held = Signal(3)
        writes = Signal(3)
        writers = ((gemm.write, self.gemm_write), (alu.write, self.alu_write), (None, other))
        for n, (source, sink) in enumerate(writers):
            if source is not None:
                m.d.comb += [sink.address.eq(source.address), sink.data.eq(source.data)]
                m.d.comb += source.grant.eq(1)
            wanted = wants if source is None else source.enable
            m.d.comb += [
                held[n].eq(
                    (wanted != 0)
                    & self.hold
                    & (sink.address >= self.hold_begin)
                    & (sink.address < self.hold_end)
                ),
                sink.enable.eq(Mux(self.halt | held[n], 0, wanted)),
                writes[n].eq(wanted != 0),
            ]
        with m.If(writes.any()):
            m.d.sync += self.taint.eq(self.issued)
        return held.any() & ~self.halt
