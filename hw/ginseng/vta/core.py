"""The VTA core: fetch, three queues with tokens, scratchpads (VTA specification §3, §4)."""

from typing import Any, Final

from amaranth import Cat, Module, Mux, ResetInserter, Signal, unsigned
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ginseng.bus.port import MemorySignature
from ginseng.flow.queue import Queue
from ginseng.isa.config import BusConfig, CoreConfig, Memory
from ginseng.isa.insn import INSN_BYTES, MemInsn, Opcode
from ginseng.vta.acc import Accumulators
from ginseng.vta.compute import Compute
from ginseng.vta.dispatch import Dispatch
from ginseng.vta.engine import piece_bits
from ginseng.vta.fetch import Fetch
from ginseng.vta.load import Load
from ginseng.vta.store import Store
from ginseng.vta.tokens import TokenCounter
from ginseng.vta.wipe import Wipe

__all__ = ["EVENT_LIMITS", "QUEUE_DEPTH", "Core"]

#: What a core counts, and the greatest increment of each in a cycle; names as in the register map.
EVENT_LIMITS: Final = {
    "gemm_uops": 2,
    "alu_uops": 1,
    "insns": 3,
    "reset_uops": 1,
    "gemm_wait_load": 1,
    "gemm_wait_store": 1,
    "gemm_wait_order": 1,
    "gemm_wait_uops": 1,
    "alu_wait_order": 1,
    "alu_wait_bank": 1,
    "load_wait_token": 1,
    "load_wait_memory": 1,
    "store_wait_token": 1,
    "store_wait_memory": 1,
    "store_beats": 1,
}

#: Instructions that a queue holds.
QUEUE_DEPTH: Final = 32
#: Cycles without any movement after which nothing can move any more.
_STANDSTILL: Final = 64


class Core(wiring.Component):
    """Runs VTA programs from memory.

    ``start`` begins the program of ``insn_count`` instructions at ``insn_addr``. When its FINISH
    has executed and everything under way has ended, ``done`` rises; what is left in the queues is
    dropped. Scratchpads and tokens keep their contents between programs.

    What no program may do raises ``fault`` for ever: an illegal opcode, memory or operation, token
    bits that a queue does not have, an index outside its scratchpad, a token counter beyond its
    limit, a write to accumulators that a store holds, a program in which nothing can move, or a
    failure of memory. From then on no accumulator is written, no instruction starts or completes;
    transfers under way end, their bytes count for nothing.

    Parameters
    ----------
    config : CoreConfig
    bus : BusConfig
    queue_depth : int
        Instructions that each of the three queues holds.
    packed : bool
        Whether two products share a multiplier (`ginseng.vta.dot.Dot`).
    strict_finish : bool
        The rule of the protected build: FINISH must be the last instruction of the stream, with
        the other queues idle and every token counter zero, else it is a fault.

    """

    def __init__(
        self,
        config: CoreConfig,
        bus: BusConfig,
        *,
        queue_depth: int = QUEUE_DEPTH,
        packed: bool = False,
        strict_finish: bool = False,
    ) -> None:
        self.config = config
        self.bus = bus
        self.queue_depth = queue_depth
        self.packed = packed
        self.strict_finish = strict_finish
        super().__init__(
            {
                "memory": Out(MemorySignature(bus)),
                #: In: begin; ignored while a program runs and after a fault.
                "start": In(1),
                #: In: the program, in units of 16 bytes, and its length.
                "insn_addr": In(32),
                "insn_count": In(32),
                #: In: zero INP, WGT and ACC, and micro-ops too; heeded as ``start`` is, before it.
                "clear": In(1),
                "clear_uops": In(1),
                #: Out: they are being zeroed.
                "clearing": Out(1),
                #: Out: the program is complete; until the next start.
                "done": Out(1),
                #: Out: until reset.
                "fault": Out(1),
                #: Out: increments of this cycle, of at most `EVENT_LIMITS`.
                "events": Out(
                    data.StructLayout({k: v.bit_length() for k, v in EVENT_LIMITS.items()})
                ),
                #: Out: steps and instructions since the last start. A build with
                #: `ginseng.soc.counters` leaves these open.
                "gemm_uops": Out(64),
                "alu_uops": Out(64),
                "insns": Out(64),
            }
        )

    def elaborate(self, platform):
        m = Module()

        config, bus = self.config, self.bus
        m.submodules.fetch = fetch = Fetch(bus)
        m.submodules.dispatch = dispatch = Dispatch()
        word = unsigned(8 * INSN_BYTES)
        queues = [Queue(word, self.queue_depth) for _ in range(3)]
        # What a program leaves in the queues is dropped when the next one starts.
        launch = Signal()
        for name, queue in zip(("load", "compute", "store"), queues, strict=True):
            m.submodules[f"{name}_queue"] = ResetInserter(launch)(queue)
        m.submodules.load = load = Load(config, bus)
        m.submodules.compute = compute = Compute(config, bus, packed=self.packed)
        m.submodules.store = store = Store(config, bus)
        m.submodules.acc = acc = Accumulators(config, bus)
        names = ("load_to_compute", "compute_to_load", "compute_to_store", "store_to_compute")
        tokens = {name: TokenCounter() for name in names}
        for name, counter in tokens.items():
            m.submodules[name] = counter

        m.submodules.wipe = wipe = Wipe(config)
        clearing = self.clearing

        port = self.memory
        connect(m, fetch.memory, flipped(port.fetch))
        self._reads(m, load.inp, port.inp)
        self._reads(m, load.wgt, port.wgt)
        self._reads(m, compute.memory, port.compute)
        connect(m, store.memory, flipped(port.store))
        reads, writes = (
            ("gemm_read", "alu_dst", "alu_src"),
            ("gemm_write", "alu_write", "other_write"),
        )
        for name in (*reads, "gemm_coming", "gemm_next", "alu_next", *writes):
            connect(m, getattr(compute, name), getattr(acc, name))
        connect(m, store.read, acc.store_read)
        connect(m, dispatch.o_load, queues[0].i)
        connect(m, dispatch.o_compute, queues[1].i)
        connect(m, dispatch.o_store, queues[2].i)
        self._scratchpad(m, Memory.INP, load.o_inp, compute.inp_address, compute)
        self._scratchpad(m, Memory.WGT, load.o_wgt, compute.wgt_address, compute)
        self._tokens(m, tokens, load, compute, store)
        m.d.comb += [
            compute.issued.eq(port.issued),
            store.taint.eq(compute.taint),
            compute.hold.eq(store.hold),
            compute.hold_begin.eq(store.hold_begin),
            compute.hold_end.eq(store.hold_end),
        ]

        running, flows = Signal(), Signal()
        failed, stuck, unfinished = Signal(), Signal(), Signal()
        m.d.comb += [
            dispatch.i.payload.eq(Mux(clearing, wipe.o.payload, fetch.o.payload)),
            dispatch.i.valid.eq(Mux(clearing, wipe.o.valid, fetch.o.valid) & flows),
            fetch.o.ready.eq(dispatch.i.ready & flows & ~clearing),
            wipe.o.ready.eq(dispatch.i.ready & flows & clearing),
            wipe.start.eq(launch),
            wipe.uops.eq(self.clear_uops),
            fetch.insn_addr.eq(self.insn_addr),
            fetch.insn_count.eq(self.insn_count),
            fetch.start.eq(launch & ~self.clear),
            fetch.stop.eq(~flows | clearing),
        ]
        for queue, unit in zip(queues, (load, compute, store), strict=True):
            m.d.comb += [
                unit.i.payload.eq(queue.o.payload),
                unit.i.valid.eq(queue.o.valid & running),
                queue.o.ready.eq(unit.i.ready & running),
                unit.halt.eq(self.fault),
            ]

        # A fault keeps what is under way from completing; memory is drained all the same.
        m.d.comb += [
            failed.eq(
                Cat(
                    *(dispatch.fault, load.fault, compute.fault, store.fault),
                    *(counter.fault for counter in tokens.values()),
                    # Dead memory does not keep scratchpads from being zeroed.
                    port.fault & ~(self.clear | clearing),
                    stuck,
                    unfinished,
                ).any()
            ),
            flows.eq(running & ~self.fault),
        ]
        with m.If(failed):
            m.d.sync += self.fault.eq(1)

        still = Signal()
        standstill = Signal(range(_STANDSTILL))
        m.d.comb += [
            still.eq(running & ~fetch.active & load.idle & compute.idle & store.idle),
            stuck.eq(standstill == _STANDSTILL - 1),
        ]
        m.d.sync += standstill.eq(Mux(still & ~stuck, standstill + 1, 0))

        totals = {
            "gemm_uops": (compute.gemm_step + compute.reset_step, self.gemm_uops),
            "alu_uops": (compute.alu_step, self.alu_uops),
            "insns": (load.retired + compute.retired + store.retired, self.insns),
        }
        for name, (increment, total) in totals.items():
            m.d.comb += self.events[name].eq(increment)
            m.d.sync += total.eq(Mux(launch, 0, total + increment))
        m.d.comb += [
            self.events.reset_uops.eq(compute.reset_step),
            *(
                self.events[f"{unit}_{cause}"].eq(running & signal)
                for unit, cause, signal in (
                    ("gemm", "wait_load", compute.gemm_wait_load),
                    ("gemm", "wait_store", compute.gemm_wait_store),
                    ("gemm", "wait_order", compute.gemm_wait_order),
                    ("gemm", "wait_uops", compute.gemm_wait_uops),
                    ("alu", "wait_order", compute.alu_wait_order),
                    ("alu", "wait_bank", compute.alu_wait_bank),
                    ("load", "wait_token", load.token_lacks),
                    ("load", "wait_memory", load.data_lack),
                    ("store", "wait_token", store.token_lacks),
                    ("store", "wait_memory", store.beat_waits),
                    ("store", "beats", store.beat_given),
                )
            ),
        ]

        if self.strict_finish:
            m.d.comb += unfinished.eq(
                compute.finish & ~self._finished(m, launch, fetch, dispatch, load, store, tokens)
            )

        settled = Signal(4)
        with m.FSM():
            with m.State("Await-Start"):
                with m.If(self.clear & ~self.fault):
                    m.d.comb += launch.eq(1)
                    m.d.sync += clearing.eq(1)
                    m.next = "Clear-Scratchpads"
                with m.Elif(self.start & ~self.fault):
                    m.d.comb += launch.eq(1)
                    m.d.sync += self.done.eq(0)
                    m.next = "Run-Program"

            with m.State("Clear-Scratchpads"):
                m.d.comb += running.eq(1)
                # Nothing on its way between two of these for some cycles: all of it has ended.
                waits = Cat(wipe.o.valid, *(queue.o.valid for queue in queues)).any()
                quiet = ~waits & load.idle & compute.idle
                m.d.sync += settled.eq(Cat(quiet, settled))
                with m.If(settled.all()):
                    m.d.sync += [clearing.eq(0), settled.eq(0)]
                    m.next = "Await-Start"

            with m.State("Run-Program"):
                m.d.comb += running.eq(1)
                with m.If(compute.finish):
                    m.next = "Drain-Transfers"

            with (
                m.State("Drain-Transfers"),
                m.If(fetch.quiet & load.idle & store.idle & ~self.fault),
            ):
                m.d.sync += self.done.eq(1)
                m.next = "Await-Start"

        return m

    def _reads(self, m, unit, port):
        """Wire a reading client; padding asks for nothing, and needs no memory to be told so."""
        done = Signal()
        connect(m, flipped(port.beat), unit.beat)
        m.d.comb += [
            port.descriptor.payload.eq(unit.descriptor.payload),
            port.descriptor.valid.eq(unit.descriptor.valid & ~self.clearing),
            unit.descriptor.ready.eq(port.descriptor.ready | self.clearing),
            unit.done.eq(port.done | done),
        ]
        m.d.sync += done.eq(unit.descriptor.valid & self.clearing)

    def _scratchpad(self, m, kind, writes, address, compute):
        """Make INP or WGT: written by a load engine, read by GEMM."""
        bits = 8 * self.config.element_bytes(kind)
        piece = piece_bits(self.config, self.bus, kind)
        pad: Any = memory.Memory(shape=unsigned(bits), depth=self.config.depth(kind), init=[])
        name = kind.name.lower()
        m.submodules[name] = pad
        write, read = pad.write_port(granularity=piece), pad.read_port()
        m.d.comb += [
            writes.ready.eq(1),
            write.addr.eq(writes.payload.address),
            write.data.eq(writes.payload.data[:piece].replicate(bits // piece)),
            read.addr.eq(address),
            read.en.eq(compute.enable),
            getattr(compute, name).eq(read.data),
        ]
        with m.If(writes.valid):
            m.d.comb += write.en.eq(Mux(writes.payload.zero, -1, 1 << writes.payload.index))

    def _tokens(self, m, tokens, load, compute, store):
        """Wire the counters: who pushes, who pops, and whether it may."""
        ends = {
            "load_to_compute": (load.compute_push, compute.load_available, compute.load_pop),
            "compute_to_load": (compute.load_push, load.compute_available, load.compute_pop),
            "compute_to_store": (compute.store_push, store.compute_available, store.compute_pop),
            "store_to_compute": (store.compute_push, compute.store_available, compute.store_pop),
        }
        for name, (push, available, pop) in ends.items():
            counter = tokens[name]
            m.d.comb += [
                counter.push.eq(push),
                counter.pop.eq(pop),
                available.eq(counter.available),
            ]

    def _finished(self, m, launch, fetch, dispatch, load, store, tokens):
        """Return whether a FINISH that executes now keeps the rule of the protected build."""
        passed, more = Signal(), Signal()
        taken = dispatch.i.valid & dispatch.i.ready
        opcode = dispatch.i.payload[: MemInsn.as_shape()["opcode"].width]
        with m.If(launch):
            m.d.sync += [passed.eq(0), more.eq(0)]
        with m.Elif(taken):
            m.d.sync += [passed.eq(passed | (opcode == Opcode.FINISH)), more.eq(more | passed)]
        idle = fetch.exhausted & load.idle & store.idle
        return idle & ~more & ~Cat(counter.available for counter in tokens.values()).any()
