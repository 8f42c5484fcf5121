"""The core in gates with a golden memory port around it: the plain one, or a golden TEC."""

from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ginseng.bench.errors import BenchError
from ginseng.bench.model import Model
from ginseng.bench.port import Event, PortEvent, PortTiming
from ginseng.bench.simulated import zero_scratchpads
from ginseng.bus.port import StoreDescriptor
from ginseng.golden.port import Fatal, MemoryPort, Transfer
from ginseng.golden.vta.core import Counters
from ginseng.golden.vta.schedule import Scheduler
from ginseng.isa.codec import Codec
from ginseng.isa.config import BusConfig, CoreConfig, Memory
from ginseng.isa.transfer import Client, TransferDescriptor
from ginseng.vta.core import Core

__all__ = ["GatesCore", "core_model"]

_PORT: Final = "memory__"
_READ: Final = Codec(TransferDescriptor)
_STORE: Final = Codec(StoreDescriptor)
_SAMPLES: Final = 1 << 16
#: Cycles after which a program is taken to run for ever.
_LIMIT: Final = 1 << 32


def core_model(
    core: CoreConfig,
    bus: BusConfig,
    *,
    strict_finish: bool = True,
    packed: bool = False,
    trace: Path | None = None,
) -> Model:
    """Return the core alone, with its memory port as pins; the window of ``bus`` is not its own.

    With ``packed``, two products share a multiplier as they do on the chip: slower to simulate.

    Raises
    ------
    BuildError
        If a tool that makes the model is missing or fails.

    """
    known = replace(bus, window_base=0, window_bytes=BusConfig().window_bytes)
    return Model(
        lambda: Core(core, known, strict_finish=strict_finish, packed=packed),
        trace=trace,
        recipe=f"Core {core} {known} strict_finish={strict_finish} packed={packed}",
    )


class GatesCore:
    """The Verilated core over a golden `MemoryPort`: in place of `ginseng.golden.vta.Core`.

    A read is asked of the port when its descriptor is taken, its bytes reach the core beat by beat
    and burst by burst, and it completes once the port has verified it, in the order of issue. A
    store's beats are taken once as many loads are verified as it was sampled with, and written
    whole.

    Parameters
    ----------
    model : Model
        Of `core_model`; it serves one `GatesCore` at a time, the last that was reset.
    config : CoreConfig
    bus : BusConfig
    port : MemoryPort
        Answers every transfer; nobody else may use it.
    timing : PortTiming or None
        How fast it answers.

    Attributes
    ----------
    counters : Counters
        Of the last run.

    """

    def __init__(
        self,
        model: Model,
        config: CoreConfig,
        bus: BusConfig,
        port: MemoryPort,
        *,
        timing: PortTiming | None = None,
    ) -> None:
        self.config: Final = config
        self.counters = Counters()
        self._model = model
        self._bus: Final = bus
        self._golden: Final = port
        self._timing: Final = timing or PortTiming()
        self._program = (0, 0)

    def reset(self) -> None:
        """Full reset: queues and tokens empty, every scratchpad zero."""
        self._model.set(f"{_PORT}fault", 0)
        self._model.set("start", 0)
        self._model.reset()
        self._model.attach_port(_PORT, self._bus, self._timing)
        self.counters = Counters()
        zero_scratchpads(self._model, uops=True)

    def clear(self) -> None:
        """Zero INP, WGT and ACC, as the protected build does before every run."""
        zero_scratchpads(self._model, uops=False)

    def start(self, insn_base: int, count: int) -> None:
        """Begin the program of ``count`` instructions at ``insn_base``, in 16-byte units."""
        self._program = (insn_base, count)

    def run(self, scheduler: Scheduler | None = None) -> None:
        """Run the program to its FINISH.

        Raises
        ------
        Fatal
            If the core raises its fault, or the port refuses; the core is then at a standstill,
            which only `reset` leaves.
        BenchError
            If a scheduler is given: the gates have a timing of their own.

        """
        if scheduler is not None:
            raise BenchError("GatesCore takes no scheduler: gates have a timing of their own")
        cycles = self._run()
        self.counters = Counters(
            cycles=cycles,
            **{name: self._model.get(name) for name in ("gemm_uops", "alu_uops", "insns")},
        )

    def _run(self) -> int:
        """Run the program; return its cycles."""
        model = self._model
        answers = _Answers(model, self.config, self._golden)
        for name, value in zip(("insn_addr", "insn_count"), self._program, strict=True):
            model.set(name, value)
        begin = model.cycle
        model.set("start", 1)
        model.run(1)
        model.set("start", 0)
        try:
            while not model.get("done"):
                if model.get("fault"):
                    raise Fatal("fault of the core")
                if model.cycle - begin >= _LIMIT:
                    raise Fatal("watchdog")
                model.run(_LIMIT, until=("done", "fault"))
                answers.give()
        except Fatal:
            # The core takes nothing more, and completes nothing.
            model.set(f"{_PORT}fault", 1)
            model.run(1)
            raise
        return model.cycle - begin


class _Answers:
    """Answers the events of one program from a golden port."""

    def __init__(self, model: Model, config: CoreConfig, port: MemoryPort) -> None:
        self._model = model
        self._config = config
        self._port = port
        self._store: tuple[Transfer, int] | None = None

    def give(self) -> None:
        """Answer every event there is."""
        while (event := self._model.event()) is not None:
            kind = Event(event.kind)
            if kind is Event.READ:
                self._read(event)
            elif kind is Event.SETTLE:
                while self._port.verified < event.number:
                    self._port.settle()
            elif kind is Event.STORE:
                self._expect(event)
            else:
                self._write(event)

    def _read(self, event: PortEvent) -> None:
        transfer = _transfer(_READ.unpack(event.bytes))
        data = self._port.read(Client(event.client), transfer)
        self._model.answer(event, data.tobytes())

    def _expect(self, event: PortEvent) -> None:
        fields = _STORE.unpack(event.bytes)
        transfer = _transfer(_READ.unpack(event.bytes[: _READ.nbytes]))
        # The sample is of few bits; no load is issued twice around them.
        sample = event.number - (event.number - fields["sample"]) % _SAMPLES
        if sample < 0:
            raise Fatal("store barrier: a sample of loads that were never issued")
        nbytes = transfer.rows * transfer.row_elements * self._config.element_bytes(Memory.OUT)
        self._store = transfer, sample
        self._model.expect(nbytes, sample)

    def _write(self, event: PortEvent) -> None:
        if self._store is None:
            raise BenchError("The harness wrote a store that nobody asked for; this is a defect")
        transfer, sample = self._store
        data: NDArray[np.uint8] = np.frombuffer(event.bytes, np.uint8)
        self._port.write(transfer, data, sample)


def _transfer(fields: dict[str, int]) -> Transfer:
    return Transfer(
        Memory(fields["memory"]),
        fields["dram_base"],
        fields["rows"],
        fields["row_elements"],
        fields["stride"],
    )
