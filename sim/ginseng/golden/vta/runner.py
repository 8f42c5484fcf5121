"""What runs a session's programs: the golden core, or in a co-simulation gates."""

from collections.abc import Callable
from typing import Protocol, TypeAlias

from ginseng.golden.port import MemoryPort
from ginseng.golden.vta.core import Core, Counters
from ginseng.golden.vta.schedule import Scheduler
from ginseng.isa.config import CoreConfig

__all__ = ["CoreMaker", "ProgramCore", "golden_core"]


class ProgramCore(Protocol):
    """What the monitor asks of a core; `ginseng.golden.vta.Core` says what each does."""

    @property
    def counters(self) -> Counters:
        """Of the last run."""
        ...

    def reset(self) -> None:
        """Zero everything."""
        ...

    def clear(self) -> None:
        """Zero INP, WGT and ACC."""
        ...

    def start(self, insn_base: int, count: int) -> None:
        """Begin a program."""
        ...

    def run(self, scheduler: Scheduler | None = None) -> None:
        """Run it to its FINISH, or raise Fatal."""
        ...


#: Makes a core of the protected build over a memory port.
CoreMaker: TypeAlias = Callable[[CoreConfig, MemoryPort], ProgramCore]


def golden_core(config: CoreConfig, port: MemoryPort) -> Core:
    """Return the golden core of the protected build."""
    return Core(config, port, strict_finish=True)
