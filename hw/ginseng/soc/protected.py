"""The protected build but for its monitor: the core behind its TEC (TEC specification)."""

from typing import Any, Final

from amaranth import Module, ResetInserter, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ginseng.bus.axi import AxiPins, connect_pins
from ginseng.isa.config import SystemConfig
from ginseng.isa.mailbox import Refusal, State
from ginseng.isa.registers import COUNTERS
from ginseng.isa.table import Limits
from ginseng.soc.counters import Counters
from ginseng.tec.control import ControlCommand
from ginseng.tec.core import LANE_COUNTERS, Tec
from ginseng.tec.shapes import MeasuredItem
from ginseng.vta.core import EVENT_LIMITS, Core

__all__ = ["COUNTED", "Protected"]

#: Counters by number: those of the register map, then those of the lanes.
COUNTED: Final = (*COUNTERS, *LANE_COUNTERS)


class Protected(wiring.Component):
    """What the monitor drives: VTA core, TEC and their counters.

    The first fault of either is ``fatal`` for ever. Then the TEC destroys what it knows, the core
    is reset and zeroes its scratchpads; ``wiped`` says that both are through.

    Parameters
    ----------
    config : SystemConfig
        With a TEC.
    packed : bool
        Whether two products of the core share a multiplier.
    limits : Limits or None
        Ends of the TEC's counters.

    """

    #: Memory, the manager's view.
    m_axi: Any
    #: In: `ControlCommand`.
    command: stream.Interface
    #: Out: a command is answered, and how; where the session stands.
    answer_valid: Signal
    answer: Any
    state: Any
    #: Out: what is to be hashed.
    measured: stream.Interface
    #: In: as of `Core`.
    insn_addr: Signal
    insn_count: Signal
    start: Signal
    clear: Signal
    clear_uops: Signal
    #: Out: the scratchpads are being zeroed.
    clearing: Signal
    #: Out: the program is done, and its counters are right; until the next start.
    done: Signal
    #: In: for one cycle: end the session. Out: as of `Tec`.
    wipe: Signal
    wiped: Signal
    #: Out: there was a fault.
    fatal: Signal
    #: In: the number of a counter, of `COUNTED`. Out: it is its turn; its value.
    counter: Signal
    counter_current: Signal
    counter_value: Signal

    def __init__(
        self, config: SystemConfig, *, packed: bool = False, limits: Limits | None = None
    ) -> None:
        self.config: Final = config
        self.packed: Final = packed
        self.limits: Final = limits
        super().__init__(
            {
                "m_axi": Out(AxiPins(config.bus)),
                "command": In(stream.Signature(ControlCommand)),
                "answer_valid": Out(1),
                "answer": Out(Refusal),
                "state": Out(State, init=State.BOOT),  # type: ignore[call-arg]
                "measured": Out(stream.Signature(MeasuredItem)),
                "insn_addr": In(32),
                "insn_count": In(32),
                "start": In(1),
                "clear": In(1),
                "clear_uops": In(1),
                "clearing": Out(1),
                "done": Out(1),
                "wipe": In(1),
                "wiped": Out(1),
                "fatal": Out(1),
                "counter": In(range(len(COUNTED))),
                "counter_current": Out(1),
                "counter_value": Out(48),
            }
        )

    def elaborate(self, platform):
        m = Module()

        config = self.config
        core = Core(config.core, config.bus, packed=self.packed, strict_finish=True)
        tec = Tec(config, self.limits)
        core_reset = Signal()
        m.submodules.core = ResetInserter(core_reset)(core)
        m.submodules.tec = tec
        limits = {"cycles": 1} | EVENT_LIMITS | tec.event_limits
        m.submodules.counters = counters = Counters(
            {name: limits[name] for name in COUNTED}, tec.event_units
        )

        connect(m, core.memory, tec.memory)
        connect_pins(m, self.m_axi, tec.axi, config.bus)
        connect(m, flipped(self.command), tec.command)
        connect(m, tec.measured, flipped(self.measured))
        m.d.comb += [
            self.answer_valid.eq(tec.answer_valid),
            self.answer.eq(tec.answer),
            self.state.eq(tec.state),
            core.insn_addr.eq(self.insn_addr),
            core.insn_count.eq(self.insn_count),
            core.start.eq(self.start & ~tec.fatal),
            tec.halt.eq(core.fault),
            tec.wipe.eq(self.wipe),
            self.fatal.eq(tec.fatal),
            counters.clear.eq(self.start),
            counters.number.eq(self.counter),
            self.counter_current.eq(counters.current),
            self.counter_value.eq(counters.value),
            *(counters.events[name].eq(core.events[name]) for name in EVENT_LIMITS),
            *(counters.events[name].eq(tec.events[name]) for name in tec.event_limits),
        ]

        running = Signal()
        settling = Signal(range(counters.turns + 2))
        m.d.comb += counters.events.cycles.eq(running)
        with m.If(settling != 0):
            m.d.sync += settling.eq(settling - 1)
            with m.If(settling == 1):
                m.d.sync += self.done.eq(1)
        with m.If(self.start):
            m.d.sync += [running.eq(1), self.done.eq(0)]
        with m.Elif(running & core.done):
            m.d.sync += [running.eq(0), settling.eq(counters.turns + 1)]

        # SEC: TEC.ZEROIZE -- scratchpads too, once nothing that is under way can write them.
        with m.FSM():
            with m.State("Alive"):
                m.d.comb += [
                    core.clear.eq(self.clear),
                    core.clear_uops.eq(self.clear_uops),
                    self.clearing.eq(core.clearing),
                    self.wiped.eq(tec.wiped & ~tec.fatal),
                ]
                with m.If(tec.fatal & tec.idle):
                    m.next = "Reset-Core"

            with m.State("Reset-Core"):
                m.d.comb += core_reset.eq(1)
                m.next = "Clear-Core"

            with m.State("Clear-Core"):
                m.d.comb += [core.clear.eq(1), core.clear_uops.eq(1), self.clearing.eq(1)]
                with m.If(core.clearing):
                    m.next = "Await-Clear"

            with m.State("Await-Clear"):
                m.d.comb += self.clearing.eq(core.clearing)
                with m.If(~core.clearing):
                    m.next = "Dead"

            with m.State("Dead"):
                m.d.comb += self.wiped.eq(tec.wiped)

        return m
