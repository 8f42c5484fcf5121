"""Keeps the state of several walks in one memory: a lookup table holds 32 bits of it."""

from dataclasses import dataclass
from typing import Any

from amaranth.lib import memory

__all__ = ["Kept", "keep"]


@dataclass(frozen=True)
class Kept:
    """Ports of such a memory: ``get``, and ``put`` where ``write`` is high."""

    put: Any
    write: Any
    get: Any


def keep(m: Any, name: str, shape: Any, key: Any, write_key: Any) -> Kept:
    """Add a memory of one item of ``shape`` for each value of ``key``; it is read without delay."""
    kept: Any = memory.Memory(shape=shape, depth=1 << len(key), init=[])
    m.submodules[name] = kept
    put, get = kept.write_port(), kept.read_port(domain="comb")
    m.d.comb += [get.addr.eq(key), put.addr.eq(write_key)]
    return Kept(put.data, put.en, get.data)
