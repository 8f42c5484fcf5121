"""The store queue: low bytes of accumulators to DRAM (VTA specification §8)."""

from amaranth import Cat, Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ginseng.bus.port import READ_COUNT_BITS, WritePort
from ginseng.flow.queue import Queue
from ginseng.isa.config import BusConfig, CoreConfig, Memory
from ginseng.isa.insn import INSN_BYTES, MemInsn
from ginseng.isa.transfer import Direction
from ginseng.vta.acc import ReadAccess
from ginseng.vta.retire import Retire
from ginseng.vta.span import Span

__all__ = ["Beats", "Store"]

#: Elements read ahead of the beats.
_AHEAD = 4


class Beats(wiring.Component):
    """Makes dense beats of elements; the one marked ``last`` ends its beat.

    One beat per cycle if elements are as wide or wider, else one element per cycle.

    Parameters
    ----------
    element_bits, beat_bits : int
        Powers of two.

    """

    #: In: elements, each ``{data, last}``.
    i: stream.Interface
    #: Out: beats, each ``{data, last}``.
    o: stream.Interface

    def __init__(self, element_bits: int, beat_bits: int) -> None:
        self.element_bits = element_bits
        self.beat_bits = beat_bits

        def flow(bits: int) -> stream.Signature:
            return stream.Signature(data.StructLayout({"data": unsigned(bits), "last": 1}))

        super().__init__({"i": In(flow(element_bits)), "o": Out(flow(beat_bits))})

    def elaborate(self, platform):
        m = Module()

        if self.element_bits >= self.beat_bits:
            parts = self.element_bits // self.beat_bits
            at = Signal(range(max(2, parts)))
            final = at == parts - 1
            m.d.comb += [
                self.o.valid.eq(self.i.valid),
                self.o.payload.data.eq(self.i.payload.data.word_select(at, self.beat_bits)),
                self.o.payload.last.eq(self.i.payload.last & final),
                self.i.ready.eq(self.o.ready & final),
            ]
            with m.If(self.o.valid & self.o.ready):
                m.d.sync += at.eq(Mux(final, 0, at + 1))
            return m

        parts = self.beat_bits // self.element_bits
        at = Signal(range(parts))
        gathered = Signal(self.beat_bits)
        full, last = Signal(), Signal()
        take = self.i.valid & self.i.ready
        m.d.comb += [
            self.o.valid.eq(full),
            self.o.payload.data.eq(gathered),
            self.o.payload.last.eq(last),
            self.i.ready.eq(~full | self.o.ready),
        ]
        with m.If(self.o.ready):
            m.d.sync += full.eq(0)
        with m.If(take):
            final = (at == parts - 1) | self.i.payload.last
            m.d.sync += [
                gathered.word_select(at, self.element_bits).eq(self.i.payload.data),
                at.eq(Mux(final, 0, at + 1)),
                full.eq(final),
                last.eq(self.i.payload.last),
            ]

        return m


class Store(wiring.Component):
    """Executes the store queue.

    A store takes six cycles to be checked and begun; its elements are read while the bank is
    free, up to one per cycle, and the next store begins when its last beat is taken. Stores
    complete, and push their tokens, in order.

    From the sample of ``taint`` to its last beat a store holds its accumulators: whoever writes
    one of them meanwhile breaks a rule (TEC specification §5).

    Parameters
    ----------
    config : CoreConfig
    bus : BusConfig
    depth : int
        Instructions under way.

    """

    #: In: instruction words.
    i: stream.Interface

    def __init__(self, config: CoreConfig, bus: BusConfig, depth: int = 4) -> None:
        self.config = config
        self.bus = bus
        self.depth = depth
        index = config.log_depth(Memory.ACC)
        super().__init__(
            {
                "i": In(stream.Signature(unsigned(8 * INSN_BYTES))),
                "memory": Out(WritePort(bus)),
                #: Out: reads of accumulators.
                "read": Out(ReadAccess(config)),
                #: In: reads that the accumulators may depend on.
                "taint": In(READ_COUNT_BITS),
                #: Out: accumulators ``hold_begin`` to ``hold_end - 1`` must not be written now.
                "hold": Out(1),
                "hold_begin": Out(index + 1),
                "hold_end": Out(index + 1),
                #: In: the compute queue has pushed a token; out: it is popped.
                "compute_available": In(1),
                "compute_pop": Out(1),
                #: Out: a token for the compute queue.
                "compute_push": Out(1),
                #: In: start and complete nothing more.
                "halt": In(1),
                #: Out: an instruction completed.
                "retired": Out(1),
                #: Out: an instruction waits for its token; a beat waits for memory, or is given.
                "token_lacks": Out(1),
                "beat_waits": Out(1),
                "beat_given": Out(1),
                #: Out: nothing is under way, and the next instruction, if any, waits for a token.
                "idle": Out(1),
                #: Out: an illegal instruction was met; stays until reset.
                "fault": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()

        lanes = self.config.batch * self.config.block
        element = data.StructLayout({"data": unsigned(8 * lanes), "last": 1})
        m.submodules.span = span = Span(self.config)
        m.submodules.retire = retire = Retire(1, self.depth)
        m.submodules.queue = queue = Queue(element, _AHEAD)
        m.submodules.beats = beats = Beats(8 * lanes, self.bus.data_bits)

        wiring.connect(m, queue.o, beats.i)

        head = data.View(MemInsn, self.i.payload)
        insn = Signal(MemInsn)
        descriptor = self.memory.descriptor
        transfer = descriptor.payload.transfer
        m.d.comb += [
            span.insn.eq(insn),
            retire.event.eq(self.memory.done),
            retire.halt.eq(self.halt),
            self.retired.eq(retire.retired),
            self.compute_push.eq(retire.push_prev),
            retire.i.payload.push_prev.eq(insn.push_prev),
            transfer.direction.eq(Direction.WRITE),
            transfer.memory.eq(insn.memory),
            transfer.dram_base.eq(insn.dram_base),
            transfer.rows.eq(insn.y_size),
            transfer.row_elements.eq(insn.x_size),
            transfer.stride.eq(insn.x_stride),
            self.memory.beat.valid.eq(beats.o.valid),
            self.memory.beat.payload.eq(beats.o.payload.data),
            beats.o.ready.eq(self.memory.beat.ready),
            self.beat_waits.eq(beats.o.valid & ~beats.o.ready),
            self.beat_given.eq(beats.o.valid & beats.o.ready),
        ]

        # Elements are read as long as there is room for what is under way.
        index = self.config.log_depth(Memory.ACC)
        unread, address = Signal(index + 1), Signal(index)
        arriving, arriving_last = Signal(), Signal()
        room = Signal(range(_AHEAD + 1), init=_AHEAD)
        read = self.read.enable & self.read.grant
        m.d.comb += [
            self.read.enable.eq((unread != 0) & (room != 0)),
            self.read.address.eq(address),
            queue.i.valid.eq(arriving),
            queue.i.payload.last.eq(arriving_last),
            queue.i.payload.data.eq(
                Cat(self.read.data.word_select(n, 32)[:8] for n in range(lanes))
            ),
        ]
        m.d.sync += [
            arriving.eq(read),
            room.eq(room - read + (queue.o.valid & queue.o.ready)),
        ]
        with m.If(read):
            m.d.sync += [
                unread.eq(unread - 1),
                address.eq(address + 1),
                arriving_last.eq(unread == 1),
            ]

        ended = Signal()
        last_beat = beats.o.valid & beats.o.ready & beats.o.payload.last
        padded = Cat(insn.y_pad_0, insn.y_pad_1, insn.x_pad_0, insn.x_pad_1) != 0
        holding = Signal()
        m.d.comb += self.hold.eq(holding)

        with m.FSM():
            with m.State("Wait-Tokens"):
                starts = Signal()
                m.d.comb += [
                    starts.eq(~self.halt & (~head.pop_prev | self.compute_available)),
                    self.idle.eq(retire.empty & ~(self.i.valid & starts)),
                    self.i.ready.eq(starts),
                    self.token_lacks.eq(self.i.valid & ~starts),
                ]
                with m.If(self.i.valid & starts):
                    m.d.comb += self.compute_pop.eq(head.pop_prev)
                    m.d.sync += insn.eq(head)
                    with m.If(head.pop_next | head.push_next):
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
                m.next = "Sample-Taint"

            with m.State("Sample-Taint"):
                with m.If(span.outside | padded):
                    m.next = "Refuse-Instruction"
                with m.Elif(insn.y_size == 0):
                    m.next = "Skip-Nothing"
                with m.Elif(retire.i.ready):
                    # SEC: TEC.STORE_BARRIER: a write in this very cycle comes after the sample.
                    m.d.comb += [holding.eq(1), retire.i.valid.eq(1)]
                    m.d.comb += retire.i.payload.waits.eq(1)
                    m.d.sync += [
                        descriptor.payload.sample.eq(self.taint),
                        unread.eq(span.count),
                        address.eq(insn.sram_base),
                        ended.eq(0),
                    ]
                    m.next = "Issue-Store"

            with m.State("Issue-Store"):
                m.d.comb += [holding.eq(~ended), descriptor.valid.eq(1)]
                m.d.sync += ended.eq(ended | last_beat)
                with m.If(descriptor.ready):
                    m.next = "Send-Beats"

            with m.State("Send-Beats"):
                m.d.comb += holding.eq(~ended)
                m.d.sync += ended.eq(ended | last_beat)
                with m.If(ended):
                    m.next = "Wait-Tokens"

            with m.State("Refuse-Instruction"):
                m.d.comb += self.fault.eq(1)

        m.d.comb += [
            self.hold_begin.eq(insn.sram_base),
            self.hold_end.eq(span.end),
        ]

        return m
