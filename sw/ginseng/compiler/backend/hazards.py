"""Which unit of the core runs an instruction, and which instructions must not run side by side."""

from enum import Enum

from ginseng.compiler.backend.instruction import Insn, Span
from ginseng.isa.config import Memory
from ginseng.isa.insn import Opcode

__all__ = ["Unit", "alternates", "conflict", "loads_uops", "unit_of"]


class Unit(Enum):
    """Where an instruction of the compute queue runs."""

    LOAD = 0
    GEMM = 1
    ALU = 2
    RESET = 3
    #: Nothing to do: a no-op, FINISH.
    NONE = 4


def unit_of(insn: Insn) -> Unit:
    """Return the unit that runs an instruction of the compute queue."""
    if insn.opcode is Opcode.LOAD and insn.access is not None:
        return Unit.LOAD
    if insn.opcode is Opcode.ALU:
        return Unit.ALU
    if insn.opcode is Opcode.GEMM:
        single = insn.kernel is not None and insn.kernel.count == 1
        return Unit.RESET if insn.fields.get("reset") and single else Unit.GEMM
    return Unit.NONE


def loads_uops(insn: Insn) -> bool:
    """Whether an instruction brings micro-ops."""
    return (
        insn.opcode is Opcode.LOAD and insn.fields.get("memory") == Memory.UOP and bool(insn.access)
    )


def _overlap(one: Span | None, other: Span | None) -> bool:
    return one is not None and other is not None and one[0] < other[1] and other[0] < one[1]


def conflict(older: Insn, younger: Insn) -> bool:
    """Whether the younger must wait until the older has ended."""
    if loads_uops(younger):
        begin = younger.fields["sram_base"]
        replaced = (begin, begin + younger.fields["x_size"])
        if older.kernel is None:
            return False
        return _overlap(replaced, (older.fields["uop_begin"], older.fields["uop_end"]))
    return (
        _overlap(older.writes, younger.writes)
        or _overlap(older.writes, younger.reads)
        or _overlap(older.reads, younger.writes)
    )


def alternates(insn: Insn) -> bool:
    """Whether the operands of an ALU walk move from bank to bank, so that none waits."""
    if insn.reads is None or (insn.kernel is not None and insn.kernel.count > 1):
        return True
    fields = insn.fields
    inner = "in" if fields["iter_in"] > 1 else "out"
    dst, src = fields[f"dst_factor_{inner}"], fields[f"src_factor_{inner}"]
    return dst % 2 == 1 and (src % 2 == 1 or src == 0)
