"""The register map: one AXI4-Lite slave, 32-bit words, byte offsets (monitor specification §3)."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from amaranth.lib import data, enum

from ginseng.isa.config import SystemConfig
from ginseng.isa.mailbox import Command, Refusal, State

__all__ = [
    "ARGUMENT_BYTES",
    "COUNTERS",
    "MAGIC",
    "RESULT_BYTES",
    "Access",
    "Build",
    "CommandWord",
    "ControlWord",
    "Register",
    "RegisterMap",
    "StatusWord",
    "register_map",
]

#: First register of every build: ``GSNG``, little-endian.
MAGIC: Final = int.from_bytes(b"GSNG", "little")
#: Size of the mailbox's windows, in bytes.
ARGUMENT_BYTES: Final = 256
RESULT_BYTES: Final = 1024


class Access(enum.Enum):
    """What the host may do with a register; anything else is ignored and reads as zero."""

    READ = "r"
    WRITE = "w"
    READ_WRITE = "rw"


class Build(enum.IntEnum, shape=8):
    """Which registers exist."""

    BARE = 0
    PROTECTED = 1


class ControlWord(data.Struct):
    """Bare build, as the reference's VCR: write 1 to launch; ``done`` rises at FINISH.

    ``fault`` rises instead when the program did what no program may; only ``reset`` leaves it.
    """

    launch: 1
    done: 1
    fault: 1
    reset: 1


class CommandWord(data.Struct):
    """Protected build: writing it starts a command on the argument window."""

    command: Command
    _zero: 8
    length: 16


class StatusWord(data.Struct):
    """Protected build: what the monitor does. In FATAL every other field reads as zero."""

    state: State
    busy: 1
    _zero: 3
    refusal: Refusal
    result_length: 16


@dataclass(frozen=True)
class Register:
    """One register or window.

    Attributes
    ----------
    name : str
    offset : int
        Bytes from the start of the slave.
    nbytes : int
        Size; more than 4 means consecutive words, the low one first.
    access : Access
    doc : str
    shape : layout or None
        Fields of the word, where it has any.

    """

    name: str
    offset: int
    nbytes: int
    access: Access
    doc: str
    shape: Any = None


_R, _W, _RW = Access.READ, Access.WRITE, Access.READ_WRITE

_IDENTITY: Final = (
    Register("magic", 0x000, 4, _R, "GSNG"),
    Register("build", 0x004, 4, _R, "bits 7:0 a Build, bit 8 whether this is a debug build"),
    Register("reset", 0x008, 4, _W, "write 1: full reset, keys and scratchpads are cleared"),
    Register("digest", 0x020, 32, _R, "SystemConfig.digest, byte 0 first"),
)

_BARE: Final = (
    Register("control", 0x100, 4, _RW, "launch and completion", ControlWord),
    Register("insn_count", 0x108, 4, _RW, "instructions of the program"),
    Register("insn_addr", 0x110, 8, _RW, "byte address of the first instruction"),
    Register("uop_base", 0x118, 8, _RW, "added to byte addresses of UOP loads"),
    Register("inp_base", 0x120, 8, _RW, "added to byte addresses of INP loads"),
    Register("wgt_base", 0x128, 8, _RW, "added to byte addresses of WGT loads"),
    Register("acc_base", 0x130, 8, _RW, "added to byte addresses of ACC and ACC_8BIT loads"),
    Register("out_base", 0x138, 8, _RW, "added to byte addresses of stores"),
)

_MAILBOX: Final = (
    Register("command", 0x100, 4, _W, "starts a command; ignored while busy", CommandWord),
    Register("status", 0x104, 4, _R, "state, busy, refusal, result length", StatusWord),
    Register("cause", 0x108, 4, _R, "cause of a FATAL; zero unless this is a debug build"),
    Register("interrupt", 0x10C, 4, _RW, "bit 0 rises when a command ends; write 1 to clear"),
    Register("argument", 0x400, ARGUMENT_BYTES, _W, "cleared after each command"),
    Register("result", 0x800, RESULT_BYTES, _R, "cleared when the next command starts"),
)

#: Counters of the last run, 64 bits each, zero after reset; zero as well where a device, such as
#: the golden one, does not count.
_COUNTERS: Final = tuple(
    Register(name, 0x200 + 8 * n, 8, _R, doc)
    for n, (name, doc) in enumerate(
        (
            ("cycles", "launch to finish, in cycles"),
            ("gemm_uops", "GEMM steps done"),
            ("alu_uops", "ALU steps done"),
            ("insns", "instructions completed"),
            ("read_bytes", "bytes read from DRAM, tags and over-fetch included"),
            ("write_bytes", "bytes written to DRAM, tags included"),
            ("read_bursts", "read bursts"),
            ("write_bursts", "write bursts"),
            ("reset_uops", "steps of gemm_uops that the reset unit did beside GEMM"),
            ("gemm_wait_load", "cycles without a GEMM step while a token of the load queue lacks"),
            ("gemm_wait_store", "… while a token of the store queue lacks"),
            ("gemm_wait_order", "… while a GEMM waits for earlier instructions of other units"),
            ("gemm_wait_uops", "… while micro-ops are loaded or examined"),
            ("alu_wait_order", "cycles in which an ALU waits for earlier instructions"),
            ("alu_wait_bank", "cycles in which an ALU step waits for a bank of ACC"),
            ("load_wait_token", "cycles in which the load queue waits for a token"),
            ("load_wait_memory", "cycles in which it has a load under way, and memory brings none"),
            ("store_wait_token", "cycles in which the store queue waits for a token"),
            ("store_wait_memory", "cycles in which memory does not take a beat that is there"),
            ("store_beats", "beats given to memory"),
            ("fetch_bytes", "part of read_bytes: instructions"),
            ("compute_bytes", "part of read_bytes: micro-ops and accumulators"),
            ("inp_bytes", "part of read_bytes: inputs"),
            ("wgt_bytes", "part of read_bytes: weights"),
            ("fetch_bursts", "part of read_bursts: instructions"),
            ("compute_bursts", "part of read_bursts: micro-ops and accumulators"),
            ("inp_bursts", "part of read_bursts: inputs"),
            ("wgt_bursts", "part of read_bursts: weights"),
        )
    )
)
#: Names of the counters, in the order of their registers.
COUNTERS: Final = tuple(register.name for register in _COUNTERS)


class RegisterMap:
    """The registers of one build, by name. Get it from `register_map`."""

    def __init__(self, registers: tuple[Register, ...]) -> None:
        self.registers: Final = registers
        self._by_name: Final = {register.name: register for register in registers}
        taken: set[int] = set()
        for register in registers:
            words = set(range(register.offset, register.offset + register.nbytes, 4))
            if register.offset % 4 or taken & words:
                raise ValueError(f"Register {register.name} at {register.offset:#x} is misplaced")
            taken |= words

    def __getitem__(self, name: str) -> Register:
        return self._by_name[name]

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    def at(self, offset: int) -> Register | None:
        """Return the register that the word at byte ``offset`` belongs to."""
        for register in self.registers:
            if register.offset <= offset < register.offset + register.nbytes:
                return register
        return None


@lru_cache(maxsize=2)
def _map(protected: bool) -> RegisterMap:
    return RegisterMap(_IDENTITY + _COUNTERS + (_MAILBOX if protected else _BARE))


def register_map(config: SystemConfig) -> RegisterMap:
    """Return the registers of ``config``: the mailbox with a TEC, plain control without."""
    return _map(config.tec is not None)
