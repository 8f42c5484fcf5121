"""What the core and its memory take, in cycles: the parameters of the cycle model.

They serve twice. `ginseng.compiler.backend.tiling` prices thousands of candidates with sums and
maxima of these terms; `ginseng.compiler.backend.replay` plays the finished stream, instruction by
instruction. docs/compiler.md states the formulae, and how far they are from the gates.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Self

from ginseng.compiler.errors import CompilerError
from ginseng.isa.config import SystemConfig
from ginseng.isa.formats import TAG_BYTES

__all__ = ["MEMORIES", "CoreTiming", "CostModel", "MemoryTiming", "memory_timing"]


@dataclass(frozen=True, kw_only=True)
class MemoryTiming:
    """A DRAM behind AXI, as `ginseng.bench.memory.MemoryModel` simulates it.

    Attributes
    ----------
    name : str
    latency : int
        Mean cycles before the first beat of a read; of a write before its response, if ``serial``
        before its first beat.
    serial : bool
        One request at a time, in the order of arrival, reads and writes sharing the bus.

    """

    name: str
    latency: int
    serial: bool = False


#: Memories that programs can be tuned for; the first is the one of the published figures.
MEMORIES: Final = {
    memory.name: memory
    for memory in (
        MemoryTiming(name="reference", latency=16, serial=True),
        MemoryTiming(name="realistic", latency=50),
    )
}


def memory_timing(name: str) -> MemoryTiming:
    """Return the timing of a memory by its name.

    Raises
    ------
    CompilerError
        If there is none.

    """
    if name not in MEMORIES:
        raise CompilerError(f"Memory is {' or '.join(MEMORIES)}, not {name!r}")
    return MEMORIES[name]


@dataclass(frozen=True, kw_only=True)
class CoreTiming:
    """Latencies of the core in gates and of its DMA, in cycles unless it says otherwise.

    Attributes
    ----------
    load_issue : int
        Of the load queue per instruction: token, check, descriptor.
    load_address : int
        From a descriptor to the address of its first burst.
    load_retire : int
        From the last beat of a load to its token.
    store_issue : int
        Of the store queue per instruction, before its first beat.
    store_retire : int
        From the last response of a store to its token.
    compute_issue : int
        Of the compute queue per instruction with one micro-op.
    compute_scan : int
        What a walk over several micro-ops adds to their count before it is issued.
    start : int
        From issue to the first step of an idle unit.
    gemm_drain, alu_drain, reset_drain : int
        From the last step to the last write, when dependents may start.
    window : int
        Instructions of the compute queue under way.
    unit_depth : int
        Instructions that wait for each unit of the compute queue.
    queue_depth : int
        Instructions that each queue holds.
    fetch : int
        Instructions of one fetch; twice as many fit.
    flight : int
        Transfers of one client under way.
    buffer : int
        Least beats that the DMA buffers for each client.
    gather : int
        Beats of a write before its address is given.

    """

    load_issue: int = 6
    load_address: int = 9
    load_retire: int = 4
    store_issue: int = 6
    store_retire: int = 3
    compute_issue: int = 3
    compute_scan: int = 2
    start: int = 4
    gemm_drain: int = 12
    alu_drain: int = 8
    reset_drain: int = 3
    window: int = 16
    unit_depth: int = 16
    queue_depth: int = 32
    fetch: int = 32
    flight: int = 8
    buffer: int = 128
    gather: int = 16


@dataclass(frozen=True, kw_only=True)
class CostModel:
    """A core over one memory.

    Attributes
    ----------
    memory : MemoryTiming
    core : CoreTiming
    beat_bytes : int
        Bytes that the bus moves in a cycle.
    burst_beats : int
        Longest burst.
    reads, writes : int
        Bursts under way.
    tag_bytes : int
        What the TEC adds to each chunk; 0 without one.
    verify : int
        Cycles from the last beat of a chunk until it is verified; 0 without a TEC.

    """

    memory: MemoryTiming = MEMORIES["reference"]
    core: CoreTiming = field(default_factory=CoreTiming)
    beat_bytes: int = 8
    burst_beats: int = 16
    reads: int = 8
    writes: int = 4
    tag_bytes: int = 0
    verify: int = 0

    @classmethod
    def of(cls, config: SystemConfig, *, protect: bool, memory: str = "reference") -> Self:
        """Return the model of a build.

        Raises
        ------
        CompilerError
            If there is no timing for ``memory``.

        """
        bus = config.bus
        return cls(
            memory=memory_timing(memory),
            beat_bytes=bus.beat_bytes,
            burst_beats=bus.burst_bytes // bus.beat_bytes,
            reads=bus.outstanding_reads,
            writes=bus.outstanding_writes,
            tag_bytes=TAG_BYTES if protect else 0,
            verify=20 if protect else 0,
        )

    @property
    def protect(self) -> bool:
        """Whether transfers move whole chunks and tags."""
        return self.tag_bytes > 0

    def beats(self, nbytes: int) -> int:
        """Return the beats of ``nbytes``."""
        return -(-nbytes // self.beat_bytes)

    def occupied(self, bursts: Sequence[int]) -> int:
        """Return the cycles for which bursts of so many beats keep the bus from others."""
        return sum(bursts) + (self.memory.latency * len(bursts) if self.memory.serial else 0)

    def runs(self, count: int, nbytes: int) -> int:
        """Return the cycles for which ``count`` contiguous runs of ``nbytes`` keep the bus."""
        beats = self.beats(nbytes)
        return count * self.occupied([0] * (-(-beats // self.burst_beats) - 1) + [beats])
