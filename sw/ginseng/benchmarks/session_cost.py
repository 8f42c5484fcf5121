"""What a session's set-up costs beside its inferences: bytes that move, cycles of IMPORT."""

from dataclasses import dataclass
from math import ceil
from typing import Final

from ginseng.program import Program

__all__ = ["SetupCost", "setup_cost"]

#: A block of SHA-256 takes so many bytes and cycles (monitor specification §1): slower than the
#: bus and the cipher lane, so the hash decides how long an import takes.
_HASH_BYTES: Final = 64
_HASH_CYCLES: Final = 65
#: Share of set-up at which it counts as paid off.
_SHARE: Final = 0.1


@dataclass(frozen=True, kw_only=True)
class SetupCost:
    """Set-up of a session, before its first inference.

    Attributes
    ----------
    nbytes : int
        Ciphertext and tags that the owner seals and the device imports.
    cycles : int
        Modelled, of the imports; without keys and quote, which no network makes longer.

    """

    nbytes: int
    cycles: int

    def images(self, cycles: int) -> int:
        """Return after how many inferences of ``cycles`` set-up is at most a tenth of the whole."""
        return ceil(self.cycles * (1 - _SHARE) / (_SHARE * cycles))


def setup_cost(program: Program) -> SetupCost:
    """Return what it takes to import every program and measured tensor of ``program``."""
    sizes = [t.sealed_bytes for t in program.tensors if t.is_imported]
    blocks = sum(ceil(size / _HASH_BYTES) for size in sizes)
    return SetupCost(nbytes=sum(sizes), cycles=blocks * _HASH_CYCLES)
