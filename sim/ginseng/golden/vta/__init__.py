"""The VTA core: scratchpads, instructions, queues and tokens (VTA specification §3 to §8).

`Core` is what a device is built around; it asks for memory through a `MemoryPort` only. The
semantics of single instructions stand in modules of their own, vectorised but exact.
"""

from ginseng.golden.vta.core import Core, Counters
from ginseng.golden.vta.schedule import Kind, RandomScheduler, Scheduler, Step, stream_order
from ginseng.golden.vta.scratchpad import Scratchpads

__all__ = [
    "Core",
    "Counters",
    "Kind",
    "RandomScheduler",
    "Scheduler",
    "Scratchpads",
    "Step",
    "stream_order",
]
