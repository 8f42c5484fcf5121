"""The Verilated device: registers and DRAM of a whole build."""

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ginseng.bench.errors import BenchError
from ginseng.bench.memory import REFERENCE, Injection, MemoryModel
from ginseng.bench.model import BusTraffic, Model
from ginseng.bench.simulated import Simulated
from ginseng.isa.config import SystemConfig
from ginseng.soc.bare import BareSoc

__all__ = ["RtlDevice"]

_HOST: Final = "s_axi__"
_MEMORY: Final = "m_axi__"


class RtlDevice(Simulated):
    """A build in gates, simulated; time passes in `run` and in register accesses.

    Parameters
    ----------
    config : SystemConfig
        With ``tec=None``: the protected build does not exist in gates yet.
    memory : MemoryModel
        How DRAM behaves.
    packed : bool
        Whether two products share a multiplier, as they do on the chip; slower to simulate.
    trace : Path or None
        Waveform file to write, ``.vcd`` or ``.fst``.

    Raises
    ------
    BenchError
        If ``config`` has a TEC.
    BuildError
        If a tool that makes the model is missing or fails.

    Attributes
    ----------
    config : SystemConfig
    memory : MemoryModel
    dram : uint8 array
        The whole window of ``config.bus``, writable.

    """

    def __init__(
        self,
        config: SystemConfig,
        *,
        memory: MemoryModel = REFERENCE,
        packed: bool = False,
        trace: Path | None = None,
    ) -> None:
        if config.tec is not None:
            raise BenchError(
                "RtlDevice simulates builds without protection; use SystemConfig(tec=None)"
            )
        self.config: Final = config
        self.memory: Final = memory
        # Taken up by the host only where it has been written.
        self.dram: Final[NDArray[np.uint8]] = np.zeros(config.bus.window_bytes, np.uint8)
        self._model = Model(
            lambda: BareSoc(config, packed=packed),
            trace=trace,
            recipe=f"BareSoc {config.canonical.decode()} packed={packed}",
        )
        self._model.attach_memory(_MEMORY, config.bus, memory, self.dram)

    @property
    def traffic(self) -> BusTraffic:
        """What the memory saw; raises `BusError` if the device broke a rule of AXI."""
        return self._model.traffic

    def inject(self, kind: Injection, at: int, value: int = 0) -> None:
        """Have the memory make an error."""
        self._model.inject(kind, at, value)

    def read(self, offset: int) -> int:
        """Return the word of the register at byte ``offset``."""
        return self._model.read_register(_HOST, offset)

    def write(self, offset: int, value: int) -> None:
        """Write the word of the register at byte ``offset``."""
        self._model.write_register(_HOST, offset, value)

    def run(self, cycles: int) -> int:
        """Run up to ``cycles`` cycles, until the device calls its host; return how many."""
        return self._model.run(cycles, until=("irq",))

    def close(self) -> None:
        """Drop the model; closing twice is fine."""
        self._model.close()
