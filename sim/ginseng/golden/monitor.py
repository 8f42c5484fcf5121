"""The secure monitor: the session's state machine and its commands (monitor specification §3)."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Final, NoReturn, TypeAlias

from cryptography.hazmat.primitives.asymmetric import ec

from ginseng.golden.attest import Attestation, Evidence, MeasurementRegisters, public_bytes
from ginseng.golden.dram import Dram
from ginseng.golden.engine import EngineMaker, ProgramCore, SessionTec, golden_engine
from ginseng.golden.keygen import (
    DeviceIdentity,
    EntropySource,
    KeyGenerator,
    RandomSource,
    attestation_key,
    uds_register,
)
from ginseng.golden.port import Fatal
from ginseng.golden.release import key_of, open_message, session_info
from ginseng.golden.selftest import KnownAnswer, known_answers, require
from ginseng.golden.vta.schedule import Scheduler
from ginseng.isa.config import SystemConfig
from ginseng.isa.errors import ConfigError
from ginseng.isa.formats import COMMITMENT_BYTES, MODEL_MONITOR_ROM, Pcr
from ginseng.isa.insn import INSN_BYTES
from ginseng.isa.mailbox import COMMANDS, Cause, Command, EventType, Refusal, State
from ginseng.isa.table import KEY_SLOTS, TENSOR_ROW, Domain, SlotUse, Source

__all__ = ["Monitor"]

#: What a command gives back.
Answer: TypeAlias = tuple[Refusal, bytes]
_Handler: TypeAlias = Callable[[Mapping[str, int], Mapping[str, bytes]], Answer]

_DONE: Final[Answer] = (Refusal.NONE, b"")
#: What every command gives in FATAL, whatever went wrong.
_DEAD: Final[Answer] = (Refusal.WRONG_STATE, b"")
#: What a Fatal during a command is put down to.
_CAUSES: Final = MappingProxyType(
    {Command.BEGIN: Cause.ENTROPY, Command.IMPORT: Cause.IMPORT, Command.RUN: Cause.RUN}
)
#: Counters of the TEC, by register name.
_TRAFFIC: Final = ("read_bytes", "write_bytes", "read_bursts", "write_bursts")
_COUNT_BYTES: Final = 8


@dataclass
class _Session:
    """What lives from BEGIN to END, beside the registers."""

    private: ec.EllipticCurvePrivateKey = field(repr=False)
    cnf: bytes
    tec: SessionTec
    core: ProgramCore
    slots: dict[int, tuple[SlotUse, bytes]] = field(default_factory=dict)
    loaded: set[int] = field(default_factory=set)
    info: bytes = b""
    entry: int = 0
    max_runs: int = 0
    runs: int = 0


class Monitor:
    """Takes the host's commands and drives key generator, attestation block, TEC and core.

    It stands in BOOT until `boot` was called. Commands run to their end before `execute` returns.

    Parameters
    ----------
    config : SystemConfig
        With a TEC.
    dram : Dram
        What the device sees of its bus window.
    identity : DeviceIdentity
        The secret is read by `boot`, and not kept.
    entropy : EntropySource or None
        By default bits of the operating system.
    lazy : bool
        Whether the TEC verifies reads as late as it may (`Tec`).
    scheduler : Scheduler or None
        Order in which the core takes its steps; None is stream order.
    self_tests : sequence of KnownAnswer or None
        By default those of the build; a test plants a wrong one.
    engine : EngineMaker or None
        Makes TEC and core of a session; by default the golden ones, for which ``lazy`` counts. In a
        simulation gates take their place.
    monitor_rom : bytes
        What PCR1 and the ladder measure; the ROM of the gates where they are compared.

    Raises
    ------
    ConfigError
        If the build has no TEC, or claims a root that the model does not have.

    Guarantees
    ----------
    A refused command changes nothing. FATAL is left by no command, and nothing secret outlives the
    step into it. Python may keep copies of a secret in freed memory; gates do not.
    """

    def __init__(
        self,
        config: SystemConfig,
        dram: Dram,
        *,
        identity: DeviceIdentity,
        entropy: EntropySource | None = None,
        lazy: bool = False,
        scheduler: Scheduler | None = None,
        self_tests: Sequence[KnownAnswer] | None = None,
        engine: EngineMaker | None = None,
        monitor_rom: bytes = MODEL_MONITOR_ROM,
    ) -> None:
        if config.tec is None:
            raise ConfigError(
                "Monitor drives a build with a TEC, this one has none; give its SystemConfig one"
            )
        self.config: Final = config
        self._key_bytes: Final = config.tec.key_bytes
        self._offset_bits: Final = config.tec.offset_bits
        self._uds: Final = uds_register(config, identity)
        self._bitstream_id: Final = identity.bitstream_id
        self._svn: Final = identity.svn
        self._rom: Final = hashlib.sha256(monitor_rom).digest()
        self._self_tests: Final = (
            known_answers(config.tec.key_bits) if self_tests is None else tuple(self_tests)
        )
        self._keygen: Final = KeyGenerator(RandomSource() if entropy is None else entropy)
        self._registers: Final = MeasurementRegisters()
        self._dram: Final = dram
        self._scheduler: Final = scheduler
        self._make_engine: Final = engine or partial(golden_engine, lazy=lazy)
        self._counters: dict[str, int] = {}
        self._attestation: Attestation | None = None
        self._session: _Session | None = None
        self._state = State.BOOT
        self._cause = Cause.NONE
        self._fault = ""
        self._handlers: Final[Mapping[Command, _Handler]] = {
            Command.BEGIN: self._begin,
            Command.ROW: self._row,
            Command.SLOT: self._slot,
            Command.IMPORT: self._import,
            Command.LOCK: self._lock,
            Command.QUOTE: self._quote,
            Command.LOADKEY: self._loadkey,
            Command.RUN: self._run,
            Command.END: self._end,
        }

    def __repr__(self) -> str:
        return f"Monitor(state={self._state.name})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("Monitor holds keys and is never pickled or copied")

    @property
    def state(self) -> State:
        """Where the session stands."""
        return self._state

    @property
    def pcrs(self) -> tuple[bytes, ...]:
        """The measurement registers; what a quote would show."""
        return self._registers.values

    @property
    def runs(self) -> int:
        """Runs of this session so far."""
        return 0 if self._session is None else self._session.runs

    @property
    def cause(self) -> Cause:
        """What the device was doing when it went FATAL; NONE unless this is a debug build."""
        # SEC: MON.CAUSE_HIDDEN -- which check failed tells an attacker how far he came.
        return self._cause if self.config.debug else Cause.NONE

    @property
    def fault(self) -> str:
        """Which rule was broken, in words; empty unless this is a debug build."""
        return self._fault if self.config.debug else ""

    @property
    def counters(self) -> Mapping[str, int]:
        """What the last run counted, by register name; empty before it, and in FATAL."""
        return dict(self._counters)

    def boot(self) -> None:
        """Test the engines, climb the ladder, start the entropy source: IDLE, or FATAL.

        Raises
        ------
        ValueError
            If the device was booted before; a reset is a new `Monitor`.

        """
        if self._state is not State.BOOT:
            raise ValueError(f"Monitor boots once, it is in {self._state.name}; make a new one")
        during = Cause.SELF_TEST
        try:
            # SEC: MON.SELF_TEST -- an engine that computes wrongly never gets a key.
            require(self._self_tests)
            during = Cause.LADDER
            key = attestation_key(
                self._uds,
                bitstream_id=self._bitstream_id,
                digest=self.config.digest,
                rom=self._rom,
                svn=self._svn,
            )
            self._attestation = Attestation(self.config, self._svn, key)
            during = Cause.ENTROPY
            self._keygen.start()
        except Fatal as fatal:
            self._die(during, fatal)
        else:
            self._state = State.IDLE

    def execute(self, command: int, argument: bytes) -> Answer:
        """Do one command.

        Returns
        -------
        Refusal
            NONE if it was done. In FATAL, and by whatever leads there, always WRONG_STATE.
        bytes
            The result; empty for most commands, and for every refusal.

        """
        # SEC: MON.FATAL_STICKY
        if self._state is State.FATAL:
            return _DEAD
        if command not in Command.__members__.values():
            return Refusal.UNKNOWN_COMMAND, b""
        known = Command(command)
        spec = COMMANDS[known]
        # SEC: MON.STATE_GUARD -- before the argument is looked at.
        if self._state not in spec.states:
            return Refusal.WRONG_STATE, b""
        if len(argument) != spec.length:
            return Refusal.WRONG_LENGTH, b""
        codec = spec.argument
        try:
            if codec is None:
                return self._handlers[known]({}, {})
            return self._handlers[known](codec.unpack(argument), codec.unpack_bytes(argument))
        except Fatal as fatal:
            self._die(_CAUSES.get(known, Cause.INTERNAL), fatal)
            return _DEAD

    def _begin(self, numbers: Mapping[str, int], texts: Mapping[str, bytes]) -> Answer:
        # SEC: MON.FRESH_SESSION -- no key, register or scratchpad of an earlier session.
        self._keygen.reseed()
        private = self._keygen.private_key()
        cnf = public_bytes(private.public_key())
        tec, core = self._make_engine(self.config, self._dram)
        core.reset()
        tec.begin(self._keygen.key(self._key_bytes))
        self._registers.reset()
        self._extend(Pcr.CONFIGURATION, EventType.CONFIGURATION, 0, self.config.digest)
        self._extend(Pcr.MONITOR, EventType.MONITOR, 0, self._rom)
        self._session = _Session(private, cnf, tec, core)
        self._state = State.CONFIG
        return Refusal.NONE, cnf

    def _row(self, numbers: Mapping[str, int], texts: Mapping[str, bytes]) -> Answer:
        row = numbers["row"].to_bytes(TENSOR_ROW.nbytes, "little")
        return self._live().tec.load_row(numbers["handle"], row), b""

    def _slot(self, numbers: Mapping[str, int], texts: Mapping[str, bytes]) -> Answer:
        session, slot, use = self._live(), numbers["slot"], numbers["use"]
        if slot >= KEY_SLOTS or use > SlotUse.STATIC | SlotUse.SESSION:
            return Refusal.ILLEGAL_ARGUMENT, b""
        refusal = session.tec.declare_slot(slot, SlotUse(use))
        if refusal is Refusal.NONE:
            session.slots[slot] = (SlotUse(use), texts["commitment"])
        return refusal, b""

    def _import(self, numbers: Mapping[str, int], texts: Mapping[str, bytes]) -> Answer:
        handle, source = numbers["handle"], numbers["source"]
        tec = self._live().tec
        # SEC: MON.IMPORT_STATE -- the TEC was told of LOCK: plain before it, sealed after.
        refusal = tec.check_import(handle, source)
        if refusal is not Refusal.NONE:
            return refusal, b""
        fields = TENSOR_ROW.unpack(dict(tec.rows())[handle])
        if fields["source"] == Source.PLAIN:
            kind, data = EventType.PLAIN_IMPORT, tec.import_plain(handle, source)
        else:
            kind, data = EventType.SEALED_IMPORT, tec.import_sealed(handle, source)
        # SEC: MON.MEASURE_AFTER_VERIFY -- only here: a bad tag has raised Fatal above.
        program = fields["domain"] == Domain.PROGRAM
        self._extend(Pcr.PROGRAM if program else Pcr.WEIGHTS, kind, handle, data)
        return _DONE

    def _lock(self, numbers: Mapping[str, int], texts: Mapping[str, bytes]) -> Answer:
        session, entry, max_runs = self._live(), numbers["entry"], numbers["max_runs"]
        if max_runs == 0:
            return Refusal.LOCK_RUNS, b""
        refusal = session.tec.lock(entry)
        if refusal is not Refusal.NONE:
            return refusal, b""
        for handle, row in session.tec.rows():
            self._extend(Pcr.TABLE, EventType.ROW, handle, row)
        self._extend(Pcr.TABLE, EventType.LOCK, entry, max_runs.to_bytes(_COUNT_BYTES, "big"))
        # SEC: MON.SLOTS_MEASURED -- all seven: a host cannot hide a slot that it took for itself.
        for slot in range(1, KEY_SLOTS):
            use, commitment = session.slots.get(slot, (SlotUse(0), bytes(COMMITMENT_BYTES)))
            self._extend(Pcr.SLOTS, EventType.SLOT, slot, bytes([use]) + commitment)
        session.entry, session.max_runs = entry, max_runs
        session.info = session_info(session.cnf, self._registers.values)
        self._state = State.LOCKED
        return _DONE

    def _quote(self, numbers: Mapping[str, int], texts: Mapping[str, bytes]) -> Answer:
        session = self._live()
        if self._attestation is None:
            raise Fatal("attestation: no key")
        evidence = Evidence(
            nonce=texts["nonce"],
            cnf=session.cnf,
            pcrs=self._registers.values,
            runs=session.runs,
            healthy=self._keygen.healthy,
        )
        return Refusal.NONE, self._attestation.quote(evidence)

    def _loadkey(self, numbers: Mapping[str, int], texts: Mapping[str, bytes]) -> Answer:
        session = self._live()
        released = open_message(session.private, session.info, texts["enc"], texts["ciphertext"])
        if released is None:
            return Refusal.KEY_REFUSED, b""
        # SEC: MON.KEY_ONCE -- K_mem has no commitment, so slot 0 is refused here too.
        if released.slot not in session.slots or released.slot in session.loaded:
            return Refusal.KEY_SLOT, b""
        use, commitment = session.slots[released.slot]
        if not released.fits(commitment):
            return Refusal.KEY_REFUSED, b""
        key = key_of(released, use, cnf=session.cnf, key_bytes=self._key_bytes)
        refusal = session.tec.load_key(released.slot, key)
        if refusal is Refusal.NONE:
            session.loaded.add(released.slot)
        return refusal, b""

    def _run(self, numbers: Mapping[str, int], texts: Mapping[str, bytes]) -> Answer:
        session = self._live()
        refusal = session.tec.check_run()
        if refusal is not Refusal.NONE:
            return refusal, b""
        # SEC: MON.RUN_LIMIT
        if session.runs >= session.max_runs:
            return Refusal.RUN_LIMIT, b""
        self._state = State.RUN
        session.runs += 1
        tec, core = session.tec, session.core
        # SEC: MON.CLEAN_RUN -- nothing of an earlier run is readable.
        core.clear()
        tec.start_run(session.runs)
        # SEC: MON.FIXED_ENTRY -- all of the program named at LOCK, from its start.
        count = tec.length(session.entry) // INSN_BYTES
        core.start(session.entry << self._offset_bits, count)
        core.run(self._scheduler)
        exports = hashlib.sha256(tec.finish_run()).digest()
        run = session.runs.to_bytes(_COUNT_BYTES, "big")
        self._extend(Pcr.RUNS, EventType.RUN, 0, run + exports)
        self._counters = asdict(core.counters) | {name: getattr(tec, name) for name in _TRAFFIC}
        self._state = State.LOCKED
        return _DONE

    def _end(self, numbers: Mapping[str, int], texts: Mapping[str, bytes]) -> Answer:
        self._close()
        self._state = State.IDLE
        return _DONE

    def _extend(self, register: Pcr, kind: EventType, handle: int, data: bytes) -> None:
        self._registers.extend(register, kind, handle, data)

    def _live(self) -> _Session:
        if self._session is None:
            raise Fatal("monitor: no session")
        return self._session

    def _close(self) -> None:
        """Forget everything of the session."""
        # SEC: MON.ZEROIZE
        session, self._session = self._session, None
        self._registers.reset()
        if session is not None:
            session.tec.zeroize()
            session.core.reset()

    def _die(self, cause: Cause, fatal: Fatal) -> None:
        """Forget everything, for ever."""
        self._state = State.FATAL
        self._cause, self._fault = cause, fatal.cause
        self._close()
        self._counters = {}
        self._uds.lock()
        self._keygen.zeroize()
        if self._attestation is not None:
            self._attestation.zeroize()
