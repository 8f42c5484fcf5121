"""A Verilated component in Python: ports, streams, registers and memory, many cycles per call."""

import ctypes
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from ginseng.bench.build import Built, Waves, build
from ginseng.bench.errors import BenchError, BusError
from ginseng.bench.memory import Injection, MemoryModel, MemoryParameters
from ginseng.bench.port import PortEvent, PortParameters, PortTiming
from ginseng.isa.config import BusConfig

__all__ = ["BusTraffic", "Model", "Pulses", "Sink", "Source"]

_CHANCES: Final = 1 << 16
_RESET_CYCLES: Final = 2


@dataclass(frozen=True)
class BusTraffic:
    """What the memory saw: bursts, and how many were open at once at most."""

    read_bursts: int
    write_bursts: int
    most_reads: int
    most_writes: int


def _library(path: Path) -> Any:
    library = ctypes.CDLL(str(path))
    pointer, word, long = ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint64
    text, number = ctypes.c_char_p, ctypes.c_int32
    signatures: dict[str, tuple[Any, list[Any]]] = {
        "sim_new": (pointer, []),
        "sim_free": (None, [pointer]),
        "sim_cycle": (long, [pointer]),
        "sim_reset": (None, [pointer, word]),
        "sim_run": (long, [pointer, long, ctypes.POINTER(word), word]),
        "sim_get": (None, [pointer, word, pointer]),
        "sim_set": (None, [pointer, word, text]),
        "sim_memory": (number, [pointer, text, ctypes.POINTER(MemoryParameters), pointer]),
        "sim_inject": (None, [pointer, word, long, word]),
        "sim_memory_state": (text, [pointer, ctypes.POINTER(long)]),
        "sim_port": (number, [pointer, text, ctypes.POINTER(PortParameters)]),
        "sim_port_event": (number, [pointer, ctypes.POINTER(PortEvent)]),
        "sim_port_answer": (None, [pointer, word, long, text, long]),
        "sim_port_expect": (None, [pointer, long, long]),
        "sim_stream": (number, [pointer, text, number, word, long]),
        "sim_feed": (None, [pointer, word, text, long]),
        "sim_items": (long, [pointer, word]),
        "sim_take": (None, [pointer, word, pointer, pointer]),
        "sim_pulses": (number, [pointer, word]),
        "sim_pulse_count": (long, [pointer, word]),
        "sim_register": (number, [pointer, text, number, word, ctypes.POINTER(word), long]),
        "sim_trace": (number, [pointer, text]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


class Model:
    """A running model; every call acts at once, and time passes in `run` and register accesses.

    Parameters
    ----------
    design : wiring.Component, callable or Built
        As of `build`, or what it returned.
    trace : Path or None
        Waveform file to write, ``.vcd`` or ``.fst``.
    recipe : str or None
        As of `build`.

    Raises
    ------
    BuildError
        If a tool is missing or fails.

    Attributes
    ----------
    built : Built

    """

    def __init__(
        self, design: Any, *, trace: Path | None = None, recipe: str | None = None
    ) -> None:
        waves = Waves.NONE if trace is None else trace.suffix.lstrip(".")
        if waves not in Waves.NUMBERS:
            raise BenchError(f"A waveform file ends in .vcd or .fst, not {trace}")
        self.built: Final = (
            design if isinstance(design, Built) else build(design, waves=waves, recipe=recipe)
        )
        self._number: Final = {name: n for n, name in enumerate(self.built.ports)}
        self._library: Final = _library(self.built.library)
        self._handle: int | None = self._library.sim_new()
        # The library writes into these: they live as long as it.
        self._dram: NDArray[np.uint8] | None = None
        self._bus: BusConfig | None = None
        if trace is not None:
            self.wave_file: Path | None = trace.with_suffix(f".{self.built.waves}")
            self._library.sim_trace(self._open(), str(self.wave_file).encode())
        else:
            self.wave_file = None
        self.reset()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """End the model; closing twice is fine."""
        handle = getattr(self, "_handle", None)
        if handle is not None:
            self._library.sim_free(handle)
            self._handle = None

    def _open(self) -> int:
        if self._handle is None:
            raise BenchError("This model is closed; make another")
        return self._handle

    def _port(self, name: str) -> int:
        if name not in self._number:
            raise BenchError(f"Port {name} does not exist (ports: {', '.join(self._number)})")
        return self._number[name]

    @property
    def cycle(self) -> int:
        """Cycles since the start."""
        return int(self._library.sim_cycle(self._open()))

    def reset(self) -> None:
        """Hold the reset for some cycles, which do not count."""
        self._library.sim_reset(self._open(), _RESET_CYCLES)

    def run(self, cycles: int, *, until: Iterable[str] = ()) -> int:
        """Run up to ``cycles`` cycles, until one of the ports ``until`` is not zero.

        An event of a memory port that waits to be taken ends it too. Returns how many it ran.
        """
        stops = [self._port(name) for name in until]
        array = (ctypes.c_uint32 * max(len(stops), 1))(*stops)
        return int(self._library.sim_run(self._open(), cycles, array, len(stops)))

    def get(self, port: str) -> int:
        """Return a port's value."""
        buffer = ctypes.create_string_buffer((self.built.ports.get(port, 0) + 7) // 8)
        self._library.sim_get(self._open(), self._port(port), buffer)
        return int.from_bytes(buffer.raw, "little")

    def set(self, port: str, value: int) -> None:
        """Set an input, from the next cycle on."""
        number = self._port(port)
        width = self.built.ports[port]
        if not 0 <= value < 1 << width:
            raise BenchError(f"Port {port} holds 0 to {(1 << width) - 1}, not {value}")
        self._library.sim_set(self._open(), number, value.to_bytes((width + 7) // 8, "little"))

    def attach_memory(
        self, prefix: str, bus: BusConfig, model: MemoryModel, dram: NDArray[np.uint8]
    ) -> None:
        """Answer the AXI pins that start with ``prefix`` from ``dram``, the bus's whole window."""
        if (
            dram.dtype != np.uint8
            or dram.shape != (bus.window_bytes,)
            or not dram.flags.c_contiguous
        ):
            raise BenchError(f"A DRAM is an array of {bus.window_bytes} bytes")
        parameters = model.parameters(bus)
        result = self._library.sim_memory(
            self._open(), prefix.encode(), ctypes.byref(parameters), dram.ctypes.data
        )
        if result:
            raise BenchError(f"Ports {prefix}* are no AXI manager")
        self._dram, self._bus = dram, bus

    def inject(self, kind: Injection, at: int, value: int = 0) -> None:
        """Have the memory make an error; `Injection` says what ``at`` and ``value`` mean."""
        if self._dram is None:
            raise BenchError("No memory is attached; call attach_memory first")
        self._library.sim_inject(self._open(), int(kind), at, value)

    @property
    def traffic(self) -> BusTraffic:
        """What the memory saw.

        Raises
        ------
        BusError
            If the manager broke a rule of AXI.

        """
        if self._dram is None:
            raise BenchError("No memory is attached; call attach_memory first")
        counts = (ctypes.c_uint64 * 4)()
        violation = self._library.sim_memory_state(self._open(), counts)
        if violation:
            raise BusError(f"A rule of AXI was broken in {violation.decode()}")
        return BusTraffic(*counts)

    def attach_port(self, prefix: str, bus: BusConfig, timing: PortTiming) -> None:
        """Answer the memory port whose pins start with ``prefix``, forgetting who did before.

        Its requests come as events that end `run`.
        """
        parameters = timing.parameters(bus)
        if self._library.sim_port(self._open(), prefix.encode(), ctypes.byref(parameters)):
            raise BenchError(f"Ports {prefix}* are no memory port")

    def event(self) -> PortEvent | None:
        """Take the oldest event of the memory port; its bytes live until the next is taken."""
        event = PortEvent()
        found = self._library.sim_port_event(self._open(), ctypes.byref(event))
        return event if found else None

    def answer(self, event: PortEvent, data: bytes) -> None:
        """Give the bytes that a READ asked for."""
        self._library.sim_port_answer(self._open(), event.client, event.number, data, len(data))

    def expect(self, nbytes: int, sample: int) -> None:
        """Say how many bytes the STORE brings, once ``sample`` loads have been verified."""
        self._library.sim_port_expect(self._open(), nbytes, sample)

    def source(self, name: str, *, idle: float = 0.0, seed: int = 0) -> "Source":
        """Feed the stream ``name``, pausing with probability ``idle`` before each item."""
        return Source(self, name, idle, seed)

    def sink(self, name: str, *, stall: float = 0.0, seed: int = 0) -> "Sink":
        """Collect the stream ``name``, not ready with probability ``stall`` in each cycle."""
        return Sink(self, name, stall, seed)

    def pulses(self, port: str) -> "Pulses":
        """Count the cycles in which a port of one bit is high."""
        return Pulses(self, port)

    def read_register(self, prefix: str, offset: int, *, cycles: int = 10_000) -> int:
        """Read a word over AXI4-Lite.

        Raises
        ------
        BusError
            If no answer comes in ``cycles`` cycles, or another than OKAY.

        """
        return self._register(prefix, offset, None, cycles)

    def write_register(self, prefix: str, offset: int, value: int, *, cycles: int = 10_000) -> None:
        """Write a word over AXI4-Lite; errors as `read_register`."""
        self._register(prefix, offset, value, cycles)

    def _register(self, prefix: str, offset: int, value: int | None, cycles: int) -> int:
        word = ctypes.c_uint32(value or 0)
        response = self._library.sim_register(
            self._open(), prefix.encode(), value is not None, offset, ctypes.byref(word), cycles
        )
        if response:
            what = "was not answered" if response < 0 else f"was answered by {response}"
            raise BusError(f"The access to register {offset:#x} {what}")
        return word.value


class _Stream:
    """A stream of the model that the library drives."""

    def __init__(self, model: Model, name: str, pause: float, seed: int, *, source: bool) -> None:
        self._model = model
        self._width = model.built.ports.get(f"{name}__payload", 0)
        self._nbytes = (self._width + 7) // 8
        self._handle = model._library.sim_stream(
            model._open(), name.encode(), source, round(pause * _CHANCES), seed
        )
        if self._handle < 0:
            raise BenchError(f"Port {name} is no stream")

    def __len__(self) -> int:
        return int(self._model._library.sim_items(self._model._open(), self._handle))


class Source(_Stream):
    """Feeds a stream; its length is what still waits. Get it from `Model.source`."""

    def __init__(self, model: Model, name: str, idle: float, seed: int) -> None:
        super().__init__(model, name, idle, seed, source=True)

    def feed(self, items: Iterable[int]) -> None:
        """Queue payloads."""
        raw = [item.to_bytes(self._nbytes, "little") for item in items]
        self._model._library.sim_feed(self._model._open(), self._handle, b"".join(raw), len(raw))


class Sink(_Stream):
    """Collects a stream; its length is what was collected. Get it from `Model.sink`."""

    def __init__(self, model: Model, name: str, stall: float, seed: int) -> None:
        super().__init__(model, name, stall, seed, source=False)

    def take(self) -> tuple[list[int], list[int]]:
        """Return and forget the payloads collected, and the cycle of each."""
        count = len(self)
        items = ctypes.create_string_buffer(max(count * self._nbytes, 1))
        when = (ctypes.c_uint64 * max(count, 1))()
        self._model._library.sim_take(self._model._open(), self._handle, items, when)
        raw = items.raw[: count * self._nbytes]
        step = self._nbytes
        return (
            [int.from_bytes(raw[n * step : (n + 1) * step], "little") for n in range(count)],
            list(when[:count]),
        )


class Pulses:
    """Counts the cycles in which a port was high. Get it from `Model.pulses`."""

    def __init__(self, model: Model, port: str) -> None:
        self._model = model
        self._handle = model._library.sim_pulses(model._open(), model._port(port))

    @property
    def count(self) -> int:
        """So far."""
        return int(self._model._library.sim_pulse_count(self._model._open(), self._handle))
