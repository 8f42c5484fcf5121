"""Gates where the golden engine stands: tests drive either by the same methods."""

from typing import Final

import numpy as np
from amaranth import Shape
from numpy.typing import NDArray

from ginseng.bench.build import Built
from ginseng.bench.errors import BenchError
from ginseng.bench.harness import FlatAxi
from ginseng.bench.memory import REFERENCE, MemoryModel
from ginseng.bench.model import Model
from ginseng.bench.protected import GatesProgram, GatesTec
from ginseng.golden.dram import Dram
from ginseng.golden.port import Fatal, Transfer
from ginseng.isa.codec import Codec
from ginseng.isa.config import SystemConfig
from ginseng.isa.transfer import Client, TransferDescriptor
from ginseng.tec.core import Tec

__all__ = ["TransferTec", "WatchedEngine", "beats_of", "tec_model", "transfer_word"]

_MEMORY: Final = "m_axi__"
_TRANSFER: Final = Codec(TransferDescriptor)
_TRANSFER_BITS: Final = Shape.cast(TransferDescriptor).width
#: Cycles between two looks at a completion, and within which one comes.
_STEP: Final = 16
_PATIENCE: Final = 1 << 16
#: Cycles within which nothing is left after a fault.
_WIPE: Final = 1 << 16


def tec_model(config: SystemConfig) -> Model:
    """Return the TEC alone, the core's and the monitor's side of it as pins."""
    return Model(
        lambda: FlatAxi(Tec(config), config.bus), recipe=f"Tec {config.canonical.decode()}"
    )


def transfer_word(transfer: Transfer, direction: int, *, sample: int = 0) -> int:
    """Return the payload of a descriptor; of a store, ``sample`` stands above the transfer."""
    raw = _TRANSFER.pack(
        direction=direction,
        memory=int(transfer.memory),
        dram_base=transfer.dram_base,
        rows=transfer.rows,
        row_elements=transfer.row_elements,
        stride=transfer.stride,
    )
    return int.from_bytes(raw, "little") | sample << _TRANSFER_BITS


def beats_of(data: bytes, beat_bytes: int) -> list[int]:
    """Return bytes as dense beats, the last one filled with zeros."""
    return [
        int.from_bytes(data[at : at + beat_bytes], "little")
        for at in range(0, len(data), beat_bytes)
    ]


def wipe_ends(model: Model) -> bool:
    """Let a model in FATAL go on; return whether it says that nothing is left."""
    model.run(_WIPE, until=("wiped",))
    return bool(model.get("wiped"))


class TransferTec(GatesTec):
    """The TEC alone in gates, as `ginseng.golden.tec.Tec`: transfers too, one at a time.

    Parameters
    ----------
    config : SystemConfig
    dram : Dram
    built : Built or None
        Of `tec_model`, so that it is looked up once.
    memory : MemoryModel

    Attributes
    ----------
    model : Model

    """

    def __init__(
        self,
        config: SystemConfig,
        dram: Dram,
        *,
        built: Built | None = None,
        memory: MemoryModel = REFERENCE,
    ) -> None:
        self.model: Final = tec_model(config) if built is None else Model(built)
        self.model.attach_memory(_MEMORY, config.bus, memory, dram.bytes)
        self._beat_bytes: Final = config.bus.beat_bytes
        self._core: Final = config.core
        names = {client: f"memory__{client.name.lower()}__" for client in Client}
        self._descriptors: Final = {
            client: self.model.source(name + "descriptor") for client, name in names.items()
        }
        self._done: Final = {
            client: self.model.pulses(name + "done") for client, name in names.items()
        }
        store = names.pop(Client.STORE)
        self._stored: Final = self.model.source(store + "beat")
        self._beats: Final = {
            client: self.model.sink(name + "beat") for client, name in names.items()
        }
        super().__init__(self.model)

    @property
    def issued(self) -> int:
        """Loads taken in this session."""
        self._alive()
        return self.model.get("memory__issued")

    @property
    def verified(self) -> int:
        """All of them: a load is verified when `read` returns."""
        return self.issued

    def settle(self) -> bool:
        """Return False: nothing is left to verify."""
        self._alive()
        return False

    def read(self, client: Client, transfer: Transfer) -> NDArray[np.uint8]:
        """Return the elements of ``transfer``, dense.

        Raises
        ------
        Fatal
            If the gates come to FATAL; `released` then tells what they had given.

        """
        self._transfer(client, transfer, 0)
        unit = 16 if client is Client.FETCH else self._core.element_bytes(transfer.memory)
        nbytes = transfer.rows * transfer.row_elements * unit
        return np.frombuffer(self.released(client)[:nbytes], np.uint8)

    def released(self, client: Client) -> bytes:
        """Return and forget the beats that a client was given."""
        beats, _ = self._beats[client].take()
        return b"".join(beat.to_bytes(self._beat_bytes, "little") for beat in beats)

    def write(self, transfer: Transfer, data: NDArray[np.uint8], sample: int) -> None:
        """Write the elements of ``transfer``, given dense.

        Raises
        ------
        Fatal
            If the gates come to FATAL.

        """
        self._stored.feed(beats_of(data.tobytes(), self._beat_bytes))
        self._transfer(Client.STORE, transfer, 1, sample)

    def _alive(self) -> None:
        if self.model.get("fatal"):
            raise Fatal("fault of the gates")

    def _transfer(
        self, client: Client, transfer: Transfer, direction: int, sample: int = 0
    ) -> None:
        self._alive()
        done = self._done[client]
        before, begin = done.count, self.model.cycle
        self._descriptors[client].feed([transfer_word(transfer, direction, sample=sample)])
        while done.count == before:
            self.model.run(_STEP, until=("fatal",))
            self._alive()
            if self.model.cycle - begin > _PATIENCE:
                raise BenchError(f"A transfer of {client.name} does not end: a defect")


class WatchedEngine:
    """Makes the engine of each session from one model, and sees what stands on the write bus.

    Parameters
    ----------
    config : SystemConfig
    model : Model
        Of `protected_model`, watched.
    memory : MemoryModel

    Attributes
    ----------
    model : Model
    memory : MemoryModel
        Of the sessions to come.

    """

    def __init__(
        self, config: SystemConfig, model: Model, *, memory: MemoryModel = REFERENCE
    ) -> None:
        self.model: Final = model
        self.memory = memory
        self._bus: Final = config.bus
        self._written: Final = model.sink("written")
        self._tec: Final = GatesTec(model)

    def __call__(self, config: SystemConfig, dram: Dram) -> tuple[GatesTec, GatesProgram]:
        """Return the TEC and the core, fresh out of reset, before ``dram``."""
        self.attach(dram)
        self.model.reset()
        return self._tec, GatesProgram(self.model, self._tec)

    def attach(self, dram: Dram) -> None:
        """Put a memory before the gates that knows of no burst."""
        self.model.attach_memory(_MEMORY, self._bus, self.memory, dram.bytes)

    def written(self) -> list[tuple[int, bytes, int]]:
        """Return and forget what stood on the write bus: cycle, data, strobe."""
        beats, cycles = self._written.take()
        size = self._bus.beat_bytes
        return [
            (cycle, (beat & (1 << 8 * size) - 1).to_bytes(size, "little"), beat >> 8 * size)
            for beat, cycle in zip(beats, cycles, strict=True)
        ]

    def wipes(self) -> bool:
        """Let the gates in FATAL go on; return whether they say that nothing is left."""
        return wipe_ends(self.model)
