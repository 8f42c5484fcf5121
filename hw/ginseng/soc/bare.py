"""The bare build: core, plain DMA and registers (VTA specification §10.1)."""

from typing import Any

from amaranth import Module, ResetInserter, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ginseng.bus.axi import AxiPins, connect_pins
from ginseng.bus.plain import PlainDma
from ginseng.bus.plan import BASES
from ginseng.bus.registers import LitePins, RegisterBank
from ginseng.isa.config import SystemConfig
from ginseng.isa.errors import ConfigError
from ginseng.isa.insn import INSN_BYTES
from ginseng.isa.registers import COUNTERS, ControlWord
from ginseng.soc.counters import Counters
from ginseng.vta.core import EVENT_LIMITS, Core

__all__ = ["BareSoc"]

_INSN_SHIFT = (INSN_BYTES - 1).bit_length()


class BareSoc(wiring.Component):
    """A device without protection: what `ginseng.golden.bare.BareDevice` models.

    A write of ``control.launch`` starts the program; while one runs, and after a fault, it is
    ignored. ``control.done`` rises once the counters of the program are right. A reset ends open
    bursts as the bus wants it before the device serves again, which the host does not notice: a
    launch in that time waits.

    Parameters
    ----------
    config : SystemConfig
        With ``tec=None``.
    packed : bool
        Whether two products of the core share a multiplier.

    Raises
    ------
    ConfigError
        If ``config`` has a TEC.

    """

    #: The host's side, the subordinate's view.
    s_axi: Any
    #: Memory, the manager's view.
    m_axi: Any
    #: Out: the program is done, or there is a fault.
    irq: Signal

    def __init__(self, config: SystemConfig, *, packed: bool = False) -> None:
        if config.tec is not None:
            raise ConfigError(
                "BareSoc is a build without protection, not one with a TecConfig; "
                "use SystemConfig(tec=None)"
            )
        self.config = config
        self.packed = packed
        super().__init__(
            {
                "s_axi": In(LitePins()),
                "m_axi": Out(AxiPins(config.bus)),
                "irq": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()

        config = self.config
        core = Core(config.core, config.bus, packed=self.packed)
        dma = PlainDma(config.core, config.bus)
        core_reset, dma_reset = Signal(), Signal()
        m.submodules.core = ResetInserter(core_reset)(core)
        m.submodules.dma = ResetInserter(dma_reset)(dma)
        m.submodules.bank = bank = RegisterBank(config)
        limits = {"cycles": 1} | EVENT_LIMITS | dma.event_limits
        m.submodules.counters = counters = Counters(
            {name: limits[name] for name in COUNTERS}, dma.event_units
        )

        wiring.connect(m, core.memory, dma.memory)
        wiring.connect(m, wiring.flipped(self.s_axi), bank.s_axi)
        connect_pins(m, self.m_axi, dma.axi, config.bus)
        for base in set(BASES.values()):
            m.d.comb += dma.bases[base].eq(getattr(bank, f"{base}_base"))

        control = Signal(ControlWord)
        written = data.View(ControlWord, bank.written[: len(control.as_value())])
        running, waiting, done, refused = Signal(), Signal(), Signal(), Signal()
        # After the end of a program, until its counters are right.
        settling = Signal(range(counters.turns + 2))
        start, resets, draining = Signal(), Signal(), Signal()
        launches = bank.control_strobe & written.launch & ~written.reset
        fault = Signal()
        addressable = (bank.insn_addr[:_INSN_SHIFT] == 0) & (
            bank.insn_addr[_INSN_SHIFT + len(core.insn_addr) :] == 0
        )
        m.d.comb += [
            resets.eq(
                (bank.reset_strobe & bank.written[0]) | (bank.control_strobe & written.reset)
            ),
            fault.eq(core.fault | refused),
            control.done.eq(done),
            control.fault.eq(fault),
            self.irq.eq(done | fault),
            core.insn_addr.eq(bank.insn_addr >> _INSN_SHIFT),
            core.insn_count.eq(bank.insn_count),
            core.start.eq(start),
            counters.clear.eq(start | resets),
            counters.number.eq(bank.counter),
            bank.counter_current.eq(counters.current),
            bank.counter_value.eq(counters.value),
            counters.events.cycles.eq(running),
            bank.clear.eq(resets),
            bank.control.eq(control),
            *(counters.events[name].eq(core.events[name]) for name in EVENT_LIMITS),
            *(counters.events[name].eq(dma.events[name]) for name in dma.event_limits),
        ]

        with m.If(launches & ~running & ~fault & (settling == 0)):
            m.d.sync += [waiting.eq(1), done.eq(0)]
        with m.If(settling != 0):
            m.d.sync += settling.eq(settling - 1)
            with m.If(settling == 1):
                m.d.sync += done.eq(1)
        with m.If(running):
            with m.If(core.done):
                m.d.sync += [running.eq(0), settling.eq(counters.turns + 1)]
            with m.If(fault):
                m.d.sync += running.eq(0)

        # Open bursts end before memory is asked for anything else.
        with m.If(draining):
            m.d.comb += [core_reset.eq(1), dma.halt.eq(1), dma_reset.eq(dma.idle)]
            m.d.sync += draining.eq(~dma.idle)
        with m.Elif(waiting):
            m.d.sync += waiting.eq(0)
            with m.If(addressable):
                m.d.comb += start.eq(1)
                m.d.sync += running.eq(1)
            with m.Else():
                m.d.sync += refused.eq(1)

        with m.If(resets):
            m.d.sync += [
                *(signal.eq(0) for signal in (running, waiting, done, refused, settling)),
                draining.eq(1),
            ]

        return m
