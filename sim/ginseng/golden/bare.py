"""The bare device: the core behind a register file, on plain DMA (VTA specification §10.1)."""

from typing import Final

from ginseng.golden.dram import Dram
from ginseng.golden.plain import PlainPort, Traffic
from ginseng.golden.port import Fatal
from ginseng.golden.vta.core import Core
from ginseng.golden.vta.schedule import Scheduler
from ginseng.isa.codec import Codec
from ginseng.isa.config import Memory, SystemConfig
from ginseng.isa.errors import ConfigError
from ginseng.isa.insn import INSN_BYTES
from ginseng.isa.registers import MAGIC, Access, Build, ControlWord, register_map

__all__ = ["BareDevice"]

_CONTROL: Final = Codec(ControlWord)

_BASES: Final = {
    "uop_base": Memory.UOP,
    "inp_base": Memory.INP,
    "wgt_base": Memory.WGT,
    "acc_base": Memory.ACC,
    "out_base": Memory.OUT,
}
_WORD: Final = 4
_WORD_MASK: Final = (1 << 32) - 1


class BareDevice:
    """A build without a TEC, as the host sees it: registers and DRAM.

    A write of ``control.launch`` runs the program to its end before it returns: ``control`` then
    reads ``done`` or ``fault``. After a fault, launches are ignored until a reset.

    Parameters
    ----------
    config : SystemConfig
        With ``tec=None``.
    scheduler : Scheduler or None
        Order in which the core takes its steps; None is stream order.
    seed : int
        Of the noise that scratchpads hold at power-up.

    Raises
    ------
    ConfigError
        If ``config`` has a TEC.

    Attributes
    ----------
    dram : Dram
        The whole window of ``config.bus``.
    scheduler : Scheduler or None
    cause : str or None
        Which rule the program broke, for tests; None while there is no fault.

    """

    def __init__(
        self, config: SystemConfig, *, scheduler: Scheduler | None = None, seed: int = 0
    ) -> None:
        if config.tec is not None:
            raise ConfigError(
                "BareDevice models a build without protection, not one with a TecConfig; "
                "use SystemConfig(tec=None)"
            )
        self.config: Final = config
        self.scheduler = scheduler
        self.dram: Final = Dram(config.bus.window_base, config.bus.window_bytes)
        self.cause: str | None = None
        self._map: Final = register_map(config)
        self._port: Final = PlainPort(self.dram, config.core, config.bus)
        self._core: Final = Core(config.core, self._port, seed=seed)
        self._settings: Final[dict[str, int]] = {}
        self._done = False

    def read(self, offset: int) -> int:
        """Return the word of the register at byte ``offset``; what is not readable reads 0."""
        register = self._map.at(offset)
        if register is None or register.access is Access.WRITE:
            return 0
        value = int.from_bytes(self._value(register.name), "little")
        return value >> 8 * (offset - offset % _WORD - register.offset) & _WORD_MASK

    def write(self, offset: int, value: int) -> None:
        """Write the word of the register at byte ``offset``; what is not writable ignores it.

        Raises
        ------
        ValueError
            If ``value`` is no 32-bit word.

        """
        if not 0 <= value <= _WORD_MASK:
            raise ValueError(f"A register word holds 0 to {_WORD_MASK} (32 bits), not {value}")
        register = self._map.at(offset)
        if register is None or register.access is Access.READ:
            return
        if register.name == "control":
            self._control(value)
        elif register.name == "reset":
            if value & 1:
                self._reset()
        else:
            shift = 8 * (offset - offset % _WORD - register.offset)
            old = self._settings.get(register.name, 0)
            self._settings[register.name] = old & ~(_WORD_MASK << shift) | value << shift

    def _value(self, name: str) -> bytes:
        """Return what a readable register holds."""
        if name == "digest":
            return self.config.digest
        if name == "control":
            return _CONTROL.pack(done=int(self._done), fault=int(self.cause is not None))
        if name == "magic":
            number = MAGIC
        elif name == "build":
            number = Build.BARE | self.config.debug << 8
        elif hasattr(self._core.counters, name):
            number = getattr(self._core.counters, name)
        elif hasattr(self._port.traffic, name):
            number = getattr(self._port.traffic, name)
        else:
            number = self._settings.get(name, 0)
        return number.to_bytes(self._map[name].nbytes, "little")

    def _control(self, value: int) -> None:
        fields = _CONTROL.unpack((value & 0xFF).to_bytes(_CONTROL.nbytes, "little"))
        if fields["reset"]:
            self._reset()
        elif fields["launch"] and self.cause is None:
            self._launch()

    def _launch(self) -> None:
        self._done = False
        self._port.traffic = Traffic()
        for name, memory in _BASES.items():
            self._port.bases[memory] = self._settings.get(name, 0)
        base, rest = divmod(self._settings.get("insn_addr", 0), INSN_BYTES)
        try:
            self._core.start(base, self._settings.get("insn_count", 0))
            if rest:
                raise Fatal("instruction address is not a multiple of 16")
            self._core.run(self.scheduler)
            self._done = True
        except Fatal as fatal:
            self.cause = fatal.cause

    def _reset(self) -> None:
        self._core.reset()
        self._port.traffic = Traffic()
        self._settings.clear()
        self._done = False
        self.cause = None
