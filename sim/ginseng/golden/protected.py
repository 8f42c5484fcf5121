"""The protected device: monitor, TEC and core behind a mailbox, as the host sees them."""

from typing import Final

from ginseng.golden.dram import Dram
from ginseng.golden.engine import EngineMaker
from ginseng.golden.keygen import DeviceIdentity, EntropySource, RandomSource
from ginseng.golden.monitor import Monitor
from ginseng.golden.vta.schedule import Scheduler
from ginseng.isa.codec import Codec
from ginseng.isa.config import SystemConfig
from ginseng.isa.mailbox import Refusal, State
from ginseng.isa.registers import (
    ARGUMENT_BYTES,
    MAGIC,
    RESULT_BYTES,
    Access,
    Build,
    CommandWord,
    StatusWord,
    register_map,
)

__all__ = ["ProtectedDevice"]

_COMMAND: Final = Codec(CommandWord)
_STATUS: Final = Codec(StatusWord)
_WORD: Final = 4
_WORD_MASK: Final = (1 << 32) - 1


class ProtectedDevice:
    """A build with a TEC: registers and DRAM.

    A write of ``command`` runs the command to its end before it returns, so ``busy`` is seen only
    by what the device itself calls meanwhile, which finds every register deaf, ``reset`` included.

    Parameters
    ----------
    config : SystemConfig
    identity : DeviceIdentity
        Survives a reset, as DRAM does.
    entropy : EntropySource or None
        By default bits of the operating system.
    lazy, scheduler, engine
        As of `Monitor`.

    Raises
    ------
    ConfigError
        If the build has no TEC, or claims a root that the model does not have.

    Attributes
    ----------
    dram : Dram
        The whole window of ``config.bus``.
    monitor : Monitor
        For tests; the host has only the registers. A reset makes a new one.

    """

    def __init__(
        self,
        config: SystemConfig,
        identity: DeviceIdentity,
        *,
        entropy: EntropySource | None = None,
        lazy: bool = False,
        scheduler: Scheduler | None = None,
        engine: EngineMaker | None = None,
    ) -> None:
        self.config: Final = config
        self.dram: Final = Dram(config.bus.window_base, config.bus.window_bytes)
        self._identity: Final = identity
        self._entropy: Final = RandomSource() if entropy is None else entropy
        self._lazy: Final = lazy
        self._scheduler: Final = scheduler
        self._engine: Final = engine
        self._map: Final = register_map(config)
        self._boot()

    def __repr__(self) -> str:
        return f"ProtectedDevice(state={self.monitor.state.name})"

    def read(self, offset: int) -> int:
        """Return the word of the register at byte ``offset``; what is not readable reads 0."""
        register = self._map.at(offset)
        if register is None or register.access is Access.WRITE:
            return 0
        at = offset - offset % _WORD - register.offset
        return int.from_bytes(self._value(register.name)[at : at + _WORD], "little")

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
        if register is None or register.access is Access.READ or self._busy:
            return
        at = offset - offset % _WORD - register.offset
        if register.name == "argument":
            self._argument[at : at + _WORD] = value.to_bytes(_WORD, "little")
        elif register.name == "interrupt":
            self._interrupt &= ~value & 1
        elif register.name == "reset":
            if value & 1:
                self._boot()
        elif register.name == "command":
            self._start(value)

    def _boot(self) -> None:
        """Come out of reset: nothing is left but the identity and DRAM."""
        self.monitor = Monitor(
            self.config,
            self.dram,
            identity=self._identity,
            entropy=self._entropy,
            lazy=self._lazy,
            scheduler=self._scheduler,
            engine=self._engine,
        )
        self._argument = bytearray(ARGUMENT_BYTES)
        self._result = b""
        self._refusal = Refusal.NONE
        self._interrupt = 0
        self._busy = False
        self.monitor.boot()

    def _start(self, word: int) -> None:
        # SEC: MON.FATAL_SILENT -- the mailbox is dead: no refusal, no interrupt, no result.
        if self.monitor.state is State.FATAL:
            return
        fields = _COMMAND.unpack(word.to_bytes(_WORD, "little"))
        # SEC: MON.WINDOWS_CLEARED -- latched, then cleared: what follows never sees it again.
        argument = self._argument[: fields["length"]]
        argument += bytes(fields["length"] - len(argument))
        self._argument = bytearray(ARGUMENT_BYTES)
        self._result = b""
        self._busy = True
        try:
            self._refusal, self._result = self.monitor.execute(fields["command"], bytes(argument))
        finally:
            self._busy = False
            self._interrupt = 1

    def _value(self, name: str) -> bytes:
        """Return what a readable register holds."""
        register = self._map[name]
        if name == "digest":
            return self.config.digest
        if name == "result":
            return self._result.ljust(RESULT_BYTES, b"\0")
        if name == "status":
            return self._status()
        if name == "magic":
            number = MAGIC
        elif name == "build":
            number = Build.PROTECTED | self.config.debug << 8
        elif name == "cause":
            number = int(self.monitor.cause)
        elif name == "interrupt":
            number = self._interrupt
        else:
            number = self.monitor.counters.get(name, 0)
        return number.to_bytes(register.nbytes, "little")

    def _status(self) -> bytes:
        state = self.monitor.state
        # SEC: MON.FATAL_SILENT -- one constant code, whatever went wrong and wherever.
        if state is State.FATAL:
            return _STATUS.pack(state=int(state))
        return _STATUS.pack(
            state=int(state),
            busy=int(self._busy),
            refusal=0 if self._busy else int(self._refusal),
            result_length=len(self._result),
        )
