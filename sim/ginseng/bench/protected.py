"""The core behind its TEC, both in gates, with the golden monitor driving them."""

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ginseng.bench.errors import BenchError
from ginseng.bench.harness import Watched
from ginseng.bench.memory import REFERENCE, Injection, MemoryModel
from ginseng.bench.model import BusTraffic, Model
from ginseng.bench.simulated import Simulated, zero_scratchpads
from ginseng.golden.attest import public_bytes
from ginseng.golden.dram import Dram
from ginseng.golden.keygen import DeviceIdentity, EntropySource, attestation_public_key
from ginseng.golden.port import Fatal
from ginseng.golden.protected import ProtectedDevice
from ginseng.golden.vta.core import Counters
from ginseng.golden.vta.schedule import Scheduler
from ginseng.isa.codec import Codec
from ginseng.isa.config import SystemConfig
from ginseng.isa.mailbox import Refusal, State
from ginseng.isa.table import TENSOR_ROW, SlotUse
from ginseng.soc.protected import COUNTED, Protected
from ginseng.tec.control import ControlCommand, ControlOp
from ginseng.tec.shapes import MeasuredItem

__all__ = ["GatesProgram", "GatesTec", "ProtectedRtlDevice", "protected_model"]

_MEMORY: Final = "m_axi__"
_COMMAND: Final = Codec(ControlCommand)
_MEASURED: Final = Codec(MeasuredItem)
_ROW_BYTES: Final = TENSOR_ROW.nbytes
#: Cycles within which a command that moves nothing is answered: the table may be looked through,
#: the written bitmap swept.
_PATIENCE: Final = 1 << 18
#: Cycles per byte within which an import ends.
_IMPORT_PATIENCE: Final = 64
#: Cycles after which a program is taken to run for ever.
_LIMIT: Final = 1 << 32
#: Cycles between two looks at what the gates clear.
_STEP: Final = 64


def protected_model(
    config: SystemConfig, *, trace: Path | None = None, watched: bool = False
) -> Model:
    """Return the core behind its TEC, with the monitor's side of both as pins.

    With ``watched``, what stands on the write bus is a stream, as of `Watched`.

    Raises
    ------
    BuildError
        If a tool that makes the model is missing or fails.

    """
    name = f"Protected {config.canonical.decode()}"
    if watched:
        return Model(
            lambda: Watched(Protected(config), config.bus), trace=trace, recipe=f"Watched {name}"
        )
    return Model(lambda: Protected(config), trace=trace, recipe=name)


class GatesTec:
    """The TEC in gates, as the monitor drives it: a `ginseng.golden.engine.SessionTec`.

    Parameters
    ----------
    model : Model
        Of `protected_model`, with its memory; it serves one `GatesTec` at a time.

    """

    def __init__(self, model: Model) -> None:
        self._model: Final = model
        self._command: Final = model.source("command")
        self._measured: Final = model.sink("measured")
        self._rows: dict[int, dict[str, int]] = {}

    @property
    def read_bytes(self) -> int:
        """Bytes read in the last run."""
        return self.counter("read_bytes")

    @property
    def write_bytes(self) -> int:
        """Bytes written in the last run."""
        return self.counter("write_bytes")

    @property
    def read_bursts(self) -> int:
        """Read bursts of the last run."""
        return self.counter("read_bursts")

    @property
    def write_bursts(self) -> int:
        """Write bursts of the last run."""
        return self.counter("write_bursts")

    def counter(self, name: str) -> int:
        """Return what a counter of the register map counted in the last run."""
        self._model.set("counter", COUNTED.index(name))
        # Until then ``counter_current`` is of the number before.
        self._model.run(1)
        self._model.run(_STEP, until=("counter_current",))
        return self._model.get("counter_value")

    def begin(self, k_mem: bytes) -> None:
        """Start the session."""
        # A run that met a fault may have left some of its measurement.
        self._measured.take()
        self._rows.clear()
        self._require(ControlOp.BEGIN, row=int.from_bytes(k_mem, "little"))

    def declare_slot(self, slot: int, use: SlotUse) -> Refusal:
        """Say what a slot is for."""
        return self._ask(ControlOp.SLOT, slot=slot, use=int(use))

    def load_row(self, handle: int, row: bytes) -> Refusal:
        """Take a row."""
        refusal = self._ask(ControlOp.ROW, handle=handle, row=int.from_bytes(row, "little"))
        if refusal is Refusal.NONE:
            self._rows[handle] = TENSOR_ROW.unpack(row)
        return refusal

    def rows(self) -> list[tuple[int, bytes]]:
        """Return handle and measured form of each row: placement is the host's."""
        return [
            (handle, TENSOR_ROW.pack(**self._rows[handle] | {"base": 0}))
            for handle in sorted(self._rows)
        ]

    def length(self, handle: int) -> int:
        """Return the bytes of a tensor."""
        return self._rows[handle]["length"]

    def check_import(self, handle: int, source: int) -> Refusal:
        """Say whether an import would be taken."""
        return self._ask(ControlOp.IMPORT, check=1, handle=handle, row=_places(source))

    def import_plain(self, handle: int, source: int) -> bytes:
        """Import plain bytes; return them as they were measured."""
        return self._import(handle, source)

    def import_sealed(self, handle: int, source: int) -> bytes:
        """Import an owner's ciphertext; return it with its tags as it was measured."""
        return self._import(handle, source)

    def lock(self, entry: int) -> Refusal:
        """Close the table."""
        return self._ask(ControlOp.LOCK, handle=entry)

    def load_key(self, slot: int, key: bytes) -> Refusal:
        """Fill a slot."""
        return self._ask(ControlOp.KEY, slot=slot, row=int.from_bytes(key, "little"))

    def check_run(self) -> Refusal:
        """Say whether a run would start."""
        return self._ask(ControlOp.RUN, check=1)

    def start_run(self, run: int) -> None:
        """Give every tensor its version."""
        row = int.from_bytes(TENSOR_ROW.pack(version=run), "little")
        self._require(ControlOp.RUN, row=row)

    def finish_run(self) -> bytes:
        """End the run; return what is measured of its exports."""
        self._require(ControlOp.FINISH)
        return self._take_measured()

    def zeroize(self) -> None:
        """Destroy everything; without a fault, a session may begin after it."""
        model = self._model
        model.set("wipe", 1)
        model.run(1)
        model.set("wipe", 0)
        model.run(_PATIENCE, until=("wiped",))
        if not model.get("wiped"):
            raise BenchError(f"The TEC is not wiped within {_PATIENCE} cycles: a defect")
        self._rows.clear()

    def _import(self, handle: int, source: int) -> bytes:
        patience = _PATIENCE + _IMPORT_PATIENCE * self.length(handle)
        row = _places(source)
        self._require(ControlOp.IMPORT, patience=patience, handle=handle, row=row)
        return self._take_measured()

    def _take_measured(self) -> bytes:
        items, _ = self._measured.take()
        found = bytearray()
        for item in items:
            fields = _MEASURED.unpack(item.to_bytes(_MEASURED.nbytes, "little"))
            found += fields["block"].to_bytes(16, "little")[: fields["nbytes"]]
        return bytes(found)

    def _require(self, op: ControlOp, *, patience: int = _PATIENCE, **fields: int) -> None:
        refusal = self._ask(op, patience=patience, **fields)
        if refusal is not Refusal.NONE:
            raise BenchError(f"The TEC refused {op.name}: {refusal.name}; check before")

    def _ask(self, op: ControlOp, *, patience: int = _PATIENCE, **fields: int) -> Refusal:
        """Do a command and return its answer.

        Raises
        ------
        Fatal
            If the gates are in FATAL, or come there.

        """
        model = self._model
        word = _COMMAND.pack(op=int(op.value), **fields)
        if not model.get("fatal"):
            self._command.feed([int.from_bytes(word, "little")])
            model.run(patience, until=("answer_valid", "fatal"))
        if model.get("fatal"):
            raise Fatal("fault of the gates")
        if not model.get("answer_valid"):
            raise Fatal("watchdog")
        refusal = Refusal(model.get("answer"))
        model.run(1)
        return refusal


def _places(source: int) -> int:
    """Return a row that says where an import comes from."""
    return int.from_bytes(TENSOR_ROW.pack(base=source), "little")


class GatesProgram:
    """The core in gates behind its TEC: a `ginseng.golden.engine.ProgramCore`.

    Parameters
    ----------
    model : Model
        Of `protected_model`.
    tec : GatesTec

    Attributes
    ----------
    counters : Counters
        Of the last run.

    """

    def __init__(self, model: Model, tec: GatesTec) -> None:
        self.counters = Counters()
        self._model: Final = model
        self._tec: Final = tec

    def reset(self) -> None:
        """Zero every scratchpad."""
        self.counters = Counters()
        self._clear(uops=True)

    def clear(self) -> None:
        """Zero INP, WGT and ACC."""
        self._clear(uops=False)

    def start(self, insn_base: int, count: int) -> None:
        """Say which program `run` runs: ``count`` instructions at ``insn_base``."""
        self._model.set("insn_addr", insn_base)
        self._model.set("insn_count", count)

    def run(self, scheduler: Scheduler | None = None) -> None:
        """Run the program to its FINISH.

        Raises
        ------
        Fatal
            If the gates come to FATAL.
        BenchError
            If a scheduler is given: the gates have a timing of their own.

        """
        if scheduler is not None:
            raise BenchError("GatesProgram takes no scheduler: gates have a timing of their own")
        model = self._model
        model.set("start", 1)
        model.run(1)
        model.set("start", 0)
        model.run(_LIMIT, until=("done", "fatal"))
        if model.get("fatal"):
            raise Fatal("fault of the gates")
        if not model.get("done"):
            raise Fatal("watchdog")
        names = ("cycles", "gemm_uops", "alu_uops", "insns")
        self.counters = Counters(**{name: self._tec.counter(name) for name in names})

    def _clear(self, *, uops: bool) -> None:
        model = self._model
        if model.get("fatal"):
            # The gates clear themselves on their way into FATAL.
            return
        zero_scratchpads(model, uops=uops)


class ProtectedRtlDevice(Simulated):
    """The protected device, VTA and TEC in gates; monitor, key generator, attestation are golden.

    A command runs to its end within the register write, as on `ProtectedDevice`.

    Parameters
    ----------
    config : SystemConfig
        With a TEC.
    identity : DeviceIdentity or None
        A fresh one by default.
    entropy : EntropySource or None
        By default bits of the operating system.
    memory : MemoryModel
        How DRAM behaves.
    trace : Path or None
        Waveform file to write, ``.vcd`` or ``.fst``.

    Raises
    ------
    BuildError
        If a tool that makes the model is missing or fails.

    Attributes
    ----------
    config : SystemConfig
    protected : ProtectedDevice
        For tests.

    """

    def __init__(
        self,
        config: SystemConfig,
        *,
        identity: DeviceIdentity | None = None,
        entropy: EntropySource | None = None,
        memory: MemoryModel = REFERENCE,
        trace: Path | None = None,
    ) -> None:
        self.config: Final = config
        self._identity: Final = identity or DeviceIdentity.generate()
        self._model = protected_model(config, trace=trace)
        self._tec: Final = GatesTec(self._model)
        self.protected: Final = ProtectedDevice(
            config, self._identity, entropy=entropy, engine=self._engine
        )
        self._model.attach_memory(_MEMORY, config.bus, memory, self.dram)

    @property
    def dram(self) -> NDArray[np.uint8]:
        """The whole window of ``config.bus``, writable."""
        return self.protected.dram.bytes

    @property
    def attestation_public_key(self) -> bytes:
        """The key that signs quotes, x ‖ y."""
        return public_bytes(attestation_public_key(self.config, self._identity))

    @property
    def traffic(self) -> BusTraffic:
        """What the memory saw; raises `BusError` if the device broke a rule of AXI."""
        return self._model.traffic

    def inject(self, kind: Injection, at: int, value: int = 0) -> None:
        """Have the memory make an error."""
        self._model.inject(kind, at, value)

    def counter(self, name: str) -> int:
        """Return what a counter of the register map, or of the lanes, counted in the last run."""
        return self._tec.counter(name)

    @property
    def counters(self) -> dict[str, int]:
        """What every counter counted in the last run."""
        return {name: self.counter(name) for name in COUNTED}

    def read(self, offset: int) -> int:
        """Return the word of the register at byte ``offset``."""
        return self.protected.read(offset)

    def write(self, offset: int, value: int) -> None:
        """Write the word of the register at byte ``offset``; a command is done on return."""
        self.protected.write(offset, value)

    def run(self, cycles: int) -> int:
        """Do nothing: time passes in commands; return 0 cycles."""
        return 0

    def close(self) -> None:
        """Drop the model; closing twice is fine."""
        self._model.close()

    def _engine(self, config: SystemConfig, dram: Dram) -> tuple[GatesTec, GatesProgram]:
        # What END has not cleared, a reset of the device leaves; DRAM stays.
        if self._model.get("fatal") or self._model.get("state") != State.IDLE:
            self._model.reset()
        return self._tec, GatesProgram(self._model, self._tec)
