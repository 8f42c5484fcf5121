"""Random transfer descriptors inside a small DRAM, for whoever answers the memory port."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ginseng.golden.port import Transfer
from ginseng.isa.config import CoreConfig, Memory
from ginseng.isa.insn import INSN_BYTES
from ginseng.isa.transfer import Client

__all__ = ["Store", "random_reads", "random_stores"]

_MEMORIES: Final = {
    Client.FETCH: (Memory.UOP,),
    Client.COMPUTE: (Memory.UOP, Memory.ACC, Memory.ACC_8BIT),
    Client.INP: (Memory.INP,),
    Client.WGT: (Memory.WGT,),
    Client.STORE: (Memory.OUT,),
}


@dataclass(frozen=True)
class Store:
    """A write with its bytes, dense."""

    transfer: Transfer
    data: NDArray[np.uint8]


def _random(
    rng: np.random.Generator, core: CoreConfig, client: Client, nbytes: int, longest: int
) -> Transfer:
    """Draw a transfer that stays inside ``nbytes`` bytes and moves about ``longest`` at most."""
    memory = Memory(rng.choice(_MEMORIES[client]))
    unit = INSN_BYTES if client is Client.FETCH else core.element_bytes(memory)
    size = int(rng.integers(0, max(2, longest // unit) + 1))
    rows = 1 if client is Client.FETCH else int(rng.choice([0, 1, 1, 2, 3, 5, 9]))
    columns = max(size // max(rows, 1), 1) if rng.random() > 0.1 else 0
    stride = int(rng.choice([columns, columns, 0, max(columns - 1, 0), columns + 1, columns + 7]))
    span = max(rows - 1, 0) * stride + columns
    last = max(nbytes // unit - span, 0)
    # Near the ends of pages, and anywhere.
    start = int(rng.integers(0, last + 1))
    if rng.random() < 0.3 and last:
        page = max(4096 // unit, 1)
        start = min(start // page * page + page - min(3, page), last)
    return Transfer(memory, start, rows, columns, stride)


def random_reads(
    core: CoreConfig, client: Client, nbytes: int, *, count: int, seed: int, longest: int = 700
) -> list[Transfer]:
    """Return ``count`` reads of ``client`` inside the first ``nbytes`` bytes of DRAM."""
    rng = np.random.default_rng([seed, int(client)])
    return [_random(rng, core, client, nbytes, longest) for _ in range(count)]


def random_stores(
    core: CoreConfig, nbytes: int, *, count: int, seed: int, longest: int = 700
) -> list[Store]:
    """Return ``count`` writes inside the first ``nbytes`` bytes of DRAM, with random bytes."""
    rng = np.random.default_rng([seed, int(Client.STORE)])
    element = core.element_bytes(Memory.OUT)
    stores = []
    for _ in range(count):
        transfer = _random(rng, core, Client.STORE, nbytes, longest)
        size = transfer.rows * transfer.row_elements * element
        stores.append(Store(transfer, rng.integers(0, 256, size, np.uint8)))
    return stores
