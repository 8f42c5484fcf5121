"""The cost model: what a transfer and an instruction take, in bytes and cycles.

It serves twice. `ginseng.compiler.backend.linear` prices thousands of candidate tilings with sums
and maxima of these terms; `ginseng.compiler.backend.replay` prices the finished stream,
instruction by instruction. docs/compiler.md states the formulae.
"""

from dataclasses import dataclass
from typing import Self

from ginseng.isa.config import SystemConfig

__all__ = ["CostModel"]


@dataclass(frozen=True, kw_only=True)
class CostModel:
    """Cycles of the core over one memory; every attribute is in cycles unless it says bytes.

    Attributes
    ----------
    beat_bytes : int
        Bytes that the bus moves in a cycle, one direction at a time.
    read_latency : int
        From a LOAD's first address to its first beat.
    write_latency : int
        From a STORE's last beat to its response.
    issue : int
        Between the starts of two transfers of one queue.
    fill : int
        Pipeline depth of a GEMM or ALU instruction: added to one cycle per micro-op.
    tag_bytes : int
        What the TEC adds to each chunk; 0 without one.

    """

    beat_bytes: int = 8
    read_latency: int = 40
    write_latency: int = 20
    issue: int = 4
    fill: int = 8
    tag_bytes: int = 0

    @classmethod
    def of(cls, config: SystemConfig, *, protect: bool) -> Self:
        """Return the model of a build."""
        return cls(beat_bytes=config.bus.beat_bytes, tag_bytes=16 if protect else 0)

    def beats(self, nbytes: int) -> int:
        """Return the bus cycles of ``nbytes``."""
        return -(-nbytes // self.beat_bytes)
