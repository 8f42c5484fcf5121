"""The load queue: INP and WGT, side by side (VTA specification §5)."""

from amaranth import Cat, Module, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ginseng.bus.port import ReadPort
from ginseng.isa.config import BusConfig, CoreConfig, Memory
from ginseng.isa.insn import INSN_BYTES, MemInsn
from ginseng.vta.engine import Engine, piece_layout
from ginseng.vta.retire import Retire
from ginseng.vta.span import Span

__all__ = ["Load"]

#: Bits of ``Retire.waits``: an engine's last write, and its read verified.
_INP_WRITTEN, _INP_DONE, _WGT_WRITTEN, _WGT_DONE = (1 << n for n in range(4))


class Load(wiring.Component):
    """Executes the load queue.

    An instruction starts once its token is there, and takes five cycles to be checked and given
    to its engine; the engines work side by side and several instructions ahead of what memory
    answers. Instructions complete, and push their tokens, in order.

    Parameters
    ----------
    config : CoreConfig
    bus : BusConfig
    depth : int
        Instructions under way.

    """

    #: In: instruction words.
    i: stream.Interface

    def __init__(self, config: CoreConfig, bus: BusConfig, depth: int = 8) -> None:
        self.config = config
        self.bus = bus
        self.depth = depth
        super().__init__(
            {
                "i": In(stream.Signature(unsigned(8 * INSN_BYTES))),
                "inp": Out(ReadPort(bus)),
                "wgt": Out(ReadPort(bus)),
                #: Out: writes to the scratchpads.
                "o_inp": Out(stream.Signature(piece_layout(bus))),
                "o_wgt": Out(stream.Signature(piece_layout(bus))),
                #: In: the compute queue has pushed a token; out: it is popped.
                "compute_available": In(1),
                "compute_pop": Out(1),
                #: Out: a token for the compute queue.
                "compute_push": Out(1),
                #: In: start and complete nothing more.
                "halt": In(1),
                #: Out: an instruction completed.
                "retired": Out(1),
                #: Out: an instruction waits for its token; memory brings nothing that it owes.
                "token_lacks": Out(1),
                "data_lack": Out(1),
                #: Out: nothing is under way, and the next instruction, if any, waits for a token.
                "idle": Out(1),
                #: Out: an illegal instruction was met; stays until reset.
                "fault": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()

        m.submodules.inp = inp = Engine(self.config, self.bus, [Memory.INP], self.depth)
        m.submodules.wgt = wgt = Engine(self.config, self.bus, [Memory.WGT], self.depth)
        m.submodules.span = span = Span(self.config)
        m.submodules.retire = retire = Retire(4, self.depth)

        connect(m, inp.memory, flipped(self.inp))
        connect(m, wgt.memory, flipped(self.wgt))
        connect(m, inp.o, flipped(self.o_inp))
        connect(m, wgt.o, flipped(self.o_wgt))

        head = data.View(MemInsn, self.i.payload)
        insn = Signal(MemInsn)
        is_wgt = insn.memory == Memory.WGT
        engine = Signal()
        m.d.comb += [
            span.insn.eq(insn),
            inp.i.payload.eq(insn),
            wgt.i.payload.eq(insn),
            retire.event.eq(Cat(inp.written, self.inp.done, wgt.written, self.wgt.done)),
            retire.halt.eq(self.halt),
            self.retired.eq(retire.retired),
            self.compute_push.eq(retire.push_next),
            retire.i.payload.push_next.eq(insn.push_next),
            self.data_lack.eq(~retire.empty & ~inp.o.valid & ~wgt.o.valid),
            engine.eq((is_wgt & wgt.i.ready) | (~is_wgt & inp.i.ready)),
        ]

        with m.FSM():
            with m.State("Wait-Tokens"):
                starts = Signal()
                m.d.comb += [
                    starts.eq(~self.halt & (~head.pop_next | self.compute_available)),
                    self.idle.eq(retire.empty & ~(self.i.valid & starts)),
                    self.i.ready.eq(starts),
                    self.token_lacks.eq(self.i.valid & ~starts),
                ]
                with m.If(self.i.valid & starts):
                    m.d.comb += self.compute_pop.eq(head.pop_next)
                    m.d.sync += insn.eq(head)
                    with m.If(head.pop_prev | head.push_prev):
                        m.next = "Refuse-Instruction"
                    with m.Elif(head.x_size == 0):
                        m.next = "Skip-Nothing"
                    with m.Else():
                        m.next = "Sum-Extents"

            with m.State("Skip-Nothing"):
                m.d.comb += retire.i.valid.eq(1)
                with m.If(retire.i.ready):
                    m.next = "Wait-Tokens"

            with m.State("Sum-Extents"):
                m.next = "Multiply-Extents"

            with m.State("Multiply-Extents"):
                m.next = "Compare-End"

            with m.State("Compare-End"):
                m.next = "Check-Span"

            with m.State("Check-Span"):
                with m.If(span.outside):
                    m.next = "Refuse-Instruction"
                with m.Else():
                    m.next = "Await-Room"

            # Room in the retirement queue stays, so that valid once raised stays as well.
            with m.State("Await-Room"), m.If(retire.i.ready):
                m.next = "Issue-Load"

            with m.State("Issue-Load"):
                m.d.comb += [
                    inp.i.valid.eq(~is_wgt),
                    wgt.i.valid.eq(is_wgt),
                    retire.i.valid.eq(engine),
                ]
                with m.If(is_wgt):
                    m.d.comb += retire.i.payload.waits.eq(_WGT_WRITTEN)
                    with m.If(insn.y_size != 0):
                        m.d.comb += retire.i.payload.waits.eq(_WGT_WRITTEN | _WGT_DONE)
                with m.Else():
                    m.d.comb += retire.i.payload.waits.eq(_INP_WRITTEN)
                    with m.If(insn.y_size != 0):
                        m.d.comb += retire.i.payload.waits.eq(_INP_WRITTEN | _INP_DONE)
                with m.If(engine):
                    m.next = "Wait-Tokens"

            with m.State("Refuse-Instruction"):
                m.d.comb += self.fault.eq(1)

        return m
