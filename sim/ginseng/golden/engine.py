"""What the monitor drives: a TEC and the core behind it, golden or, in a simulation, gates."""

from collections.abc import Callable
from typing import Protocol, TypeAlias

from ginseng.golden.dram import Dram
from ginseng.golden.tec.core import Tec
from ginseng.golden.vta.core import Core, Counters
from ginseng.golden.vta.schedule import Scheduler
from ginseng.isa.config import SystemConfig
from ginseng.isa.mailbox import Refusal
from ginseng.isa.table import SlotUse

__all__ = ["EngineMaker", "ProgramCore", "SessionTec", "golden_engine"]


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


class SessionTec(Protocol):
    """What the monitor asks of a TEC; `ginseng.golden.tec.Tec` says what each does."""

    @property
    def read_bytes(self) -> int:
        """Of the last run, like the three below."""
        ...

    @property
    def write_bytes(self) -> int:
        """Bytes written."""
        ...

    @property
    def read_bursts(self) -> int:
        """Read bursts."""
        ...

    @property
    def write_bursts(self) -> int:
        """Write bursts."""
        ...

    def begin(self, k_mem: bytes) -> None:
        """Start the session."""
        ...

    def declare_slot(self, slot: int, use: SlotUse) -> Refusal:
        """Say what a slot is for."""
        ...

    def load_row(self, handle: int, row: bytes) -> Refusal:
        """Take a row."""
        ...

    def rows(self) -> list[tuple[int, bytes]]:
        """Return handle and measured form of each row."""
        ...

    def length(self, handle: int) -> int:
        """Return the bytes of a tensor."""
        ...

    def check_import(self, handle: int, source: int) -> Refusal:
        """Say whether an import would be taken."""
        ...

    def import_plain(self, handle: int, source: int) -> bytes:
        """Import plain bytes; return what is measured."""
        ...

    def import_sealed(self, handle: int, source: int) -> bytes:
        """Import an owner's ciphertext; return what is measured."""
        ...

    def lock(self, entry: int) -> Refusal:
        """Close the table."""
        ...

    def load_key(self, slot: int, key: bytes) -> Refusal:
        """Fill a slot."""
        ...

    def check_run(self) -> Refusal:
        """Say whether a run would start."""
        ...

    def start_run(self, run: int) -> None:
        """Give every tensor its version."""
        ...

    def finish_run(self) -> bytes:
        """End the run; return what is measured of its exports."""
        ...

    def zeroize(self) -> None:
        """Destroy everything."""
        ...


#: Makes the engine of one session.
EngineMaker: TypeAlias = Callable[[SystemConfig, Dram], tuple[SessionTec, ProgramCore]]


def golden_engine(config: SystemConfig, dram: Dram, *, lazy: bool = False) -> tuple[Tec, Core]:
    """Return the golden core behind a golden TEC; ``lazy`` as of `Tec`."""
    tec = Tec(config, dram, lazy=lazy)
    return tec, Core(config.core, tec, strict_finish=True)
