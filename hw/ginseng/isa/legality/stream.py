"""Reads an instruction stream into columns and checks every encoding."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ginseng.isa.config import CoreConfig, Memory
from ginseng.isa.insn import (
    INSN_BYTES,
    AluOp,
    Instruction,
    InstructionSet,
    Opcode,
    Queue,
    instruction_set,
)
from ginseng.isa.legality.finding import Finding, Rule

__all__ = ["LoopOp", "MemOp", "Stream", "read_stream"]

Column = NDArray[np.int64]

#: Memories that LOAD fills; each with the scratchpad that takes it.
SCRATCHPADS = {
    Memory.UOP: Memory.UOP,
    Memory.WGT: Memory.WGT,
    Memory.INP: Memory.INP,
    Memory.ACC: Memory.ACC,
    Memory.ACC_8BIT: Memory.ACC,
}
#: Token bits that a queue has no neighbour for (VTA specification §4).
_FORBIDDEN = {
    Queue.LOAD: ("pop_prev", "push_prev"),
    Queue.COMPUTE: (),
    Queue.STORE: ("pop_next", "push_next"),
}
TOKENS = ("pop_prev", "pop_next", "push_prev", "push_next")


class MemOp(NamedTuple):
    """A LOAD or STORE.

    ``covered`` elements of the scratchpad from ``sram`` on, padding included, are touched; it is
    zero if nothing is moved or the range is illegal. ``rows`` is zero if DRAM is not touched.
    ``insn`` is the index of the instruction.
    """

    insn: int
    is_load: bool
    memory: int
    sram: int
    covered: int
    dram: int
    rows: int
    row_elements: int
    stride: int
    y_pad_0: int
    y_pad_1: int
    x_pad_0: int
    x_pad_1: int


class LoopOp(NamedTuple):
    """A GEMM or ALU, number ``insn`` of the stream; factors belong to the outer or inner loop."""

    insn: int
    is_alu: bool
    reset: int
    uop_begin: int
    uop_end: int
    iter_out: int
    iter_in: int
    dst_out: int
    dst_in: int
    src_out: int
    src_in: int
    wgt_out: int
    wgt_in: int
    alu_op: int
    use_imm: int
    imm: int

    @property
    def loops(self) -> tuple[int, ...]:
        """What, with the micro-ops, fixes every index: the counts and the factors."""
        return (
            self.iter_out,
            self.iter_in,
            self.dst_out,
            self.dst_in,
            self.src_out,
            self.src_in,
            self.wgt_out,
            self.wgt_in,
        )


@dataclass
class Stream:
    """A decoded stream.

    Attributes
    ----------
    count : int
        Instructions.
    opcode : list of int
        Of each, -1 where it is illegal.
    queue : list of int
        `Queue` of each, -1 where the opcode is illegal.
    tokens : list of tuple
        ``TOKENS`` of each.
    operations : list
        `MemOp` or `LoopOp` of each that touches memory, in stream order.

    """

    isa: InstructionSet
    code: bytes
    count: int
    opcode: list[int]
    queue: list[int]
    tokens: list[tuple[int, int, int, int]]
    operations: list[MemOp | LoopOp]

    def decode(self, index: int) -> Instruction:
        """Return instruction ``index`` in full."""
        return self.isa.decode(self.code[index * INSN_BYTES : (index + 1) * INSN_BYTES])


def read_stream(code: bytes, config: CoreConfig) -> tuple[Stream, list[Finding]]:
    """Decode ``code`` and check encodings and the scratchpad ranges of transfers."""
    isa = instruction_set(config)
    findings: list[Finding] = []
    count, rest = divmod(len(code), INSN_BYTES)
    if rest:
        findings.append(
            Finding(
                count,
                Rule.LENGTH,
                f"the stream ends with {rest} bytes of an instruction of {INSN_BYTES}",
            )
        )
    code = code[: count * INSN_BYTES]
    head = isa.codecs[Opcode.FINISH].columns(code)
    opcode = head["opcode"]
    legal = np.isin(opcode, [int(op) for op in isa.codecs])
    findings.extend(
        Finding(int(i), Rule.OPCODE, f"opcode {opcode[i]} is illegal (0 to {max(Opcode)})")
        for i in np.flatnonzero(~legal)
    )
    opcode = np.where(legal, opcode, -1)
    words = np.frombuffer(code, np.uint8).reshape(-1, INSN_BYTES)
    queue = np.full(count, -1, np.int64)
    operations: list[tuple[int, MemOp | LoopOp]] = []
    for op, codec in isa.codecs.items():
        where = np.flatnonzero(opcode == op)
        if not len(where):
            continue
        chosen = words[where]
        columns = codec.columns(chosen.tobytes())
        uncovered = np.frombuffer(
            codec.reserved(b"\xff" * INSN_BYTES).to_bytes(INSN_BYTES, "little"), np.uint8
        )
        for n in np.flatnonzero((chosen & uncovered).any(1)):
            bits = codec.reserved(chosen[n].tobytes())
            findings.append(
                Finding(
                    int(where[n]),
                    Rule.RESERVED,
                    f"reserved bits {bits:#x} of {op.name} are set, they must be 0",
                )
            )
        kinds = columns["memory"] if "memory" in columns else np.zeros(len(where), np.int64)
        for kind in np.unique(kinds):
            queue[where[kinds == kind]] = Instruction(op, {"memory": int(kind)}).queue.value
        if op in (Opcode.LOAD, Opcode.STORE):
            found, transfers = _transfers(config, op, where, columns)
            findings.extend(found)
            operations.extend(transfers)
        elif op in (Opcode.GEMM, Opcode.ALU):
            found, loops = _loops(op, where, columns)
            findings.extend(found)
            operations.extend(loops)
    findings.extend(_token_bits(queue, head))
    operations.sort(key=lambda operation: operation[0])
    tokens = list(zip(*(head[name].tolist() for name in TOKENS), strict=True))
    stream = Stream(
        isa,
        code,
        count,
        opcode.tolist(),
        queue.tolist(),
        tokens,
        [operation for _, operation in operations],
    )
    return stream, findings


def _token_bits(queue: Column, head: dict[str, Column]) -> Iterator[Finding]:
    for owner, names in _FORBIDDEN.items():
        for name in names:
            for i in np.flatnonzero((queue == owner.value) & (head[name] != 0)):
                yield Finding(
                    int(i),
                    Rule.TOKEN_BITS,
                    f"{name} is 1, the {owner.name} queue has no such neighbour: it must be 0",
                )


def _transfers(
    config: CoreConfig, op: Opcode, where: Column, columns: dict[str, Column]
) -> tuple[list[Finding], list[tuple[int, MemOp]]]:
    is_load = op is Opcode.LOAD
    memory, x_size, y_size = columns["memory"], columns["x_size"], columns["y_size"]
    x_total = columns["x_pad_0"] + x_size + columns["x_pad_1"]
    y_total = columns["y_pad_0"] + y_size + columns["y_pad_1"]
    moves = x_size != 0
    findings: list[Finding] = []
    if is_load:
        allowed = np.isin(memory, [int(m) for m in SCRATCHPADS])
        names = ", ".join(f"{m.name} {int(m)}" for m in SCRATCHPADS)
    else:
        allowed = (memory == Memory.OUT) | (~moves & (memory == Memory.UOP))
        names = f"OUT {int(Memory.OUT)}, or {int(Memory.UOP)} if x_size is 0"
        padded = (x_total != x_size) | (y_total != y_size)
        findings.extend(
            Finding(
                int(where[n]),
                Rule.STORE_PAD,
                f"STORE pads y {columns['y_pad_0'][n]}, {columns['y_pad_1'][n]} "
                f"x {columns['x_pad_0'][n]}, {columns['x_pad_1'][n]} must be 0",
            )
            for n in np.flatnonzero(padded)
        )
        x_total, y_total = x_size, y_size
    findings.extend(
        Finding(
            int(where[n]), Rule.MEMORY, f"memory {memory[n]} is illegal for {op.name} ({names})"
        )
        for n in np.flatnonzero(~allowed)
    )
    depths = np.zeros(8, np.int64)
    for source, target in SCRATCHPADS.items():
        depths[source] = config.depth(target)
    depths[Memory.OUT] = config.depth(Memory.ACC)
    covered = np.where(moves & allowed, x_total * y_total, 0)
    sram = columns["sram_base"]
    beyond = (covered > 0) & (sram + covered > depths[memory])
    findings.extend(
        Finding(
            int(where[n]),
            Rule.SRAM_RANGE,
            f"{op.name} touches {SCRATCHPADS.get(memory[n], Memory.ACC).name} elements "
            f"{sram[n]} to {sram[n] + covered[n] - 1}, "
            f"the scratchpad ends at {depths[memory[n]] - 1}",
        )
        for n in np.flatnonzero(beyond)
    )
    covered[beyond] = 0
    # An illegal transfer is left out of all that follows, so that it is reported once.
    rows = np.where(moves & allowed & ~beyond, y_size, 0)
    index = where.tolist()
    columns_of = (
        memory,
        sram,
        covered,
        columns["dram_base"],
        rows,
        x_size,
        columns["x_stride"],
        columns["y_pad_0"],
        columns["y_pad_1"],
        columns["x_pad_0"],
        columns["x_pad_1"],
    )
    lists = [column.tolist() for column in columns_of]
    decoded = [(i, MemOp(i, is_load, *values)) for i, *values in zip(index, *lists, strict=True)]
    return findings, [entry for entry in decoded if entry[1].covered or entry[1].rows]


def _loops(
    op: Opcode, where: Column, columns: dict[str, Column]
) -> tuple[list[Finding], list[tuple[int, LoopOp]]]:
    is_alu = op is Opcode.ALU
    findings: list[Finding] = []
    if is_alu:
        findings.extend(
            Finding(
                int(where[n]),
                Rule.ALU_OP,
                f"ALU operation {columns['alu_op'][n]} is illegal (0 to {max(AluOp)})",
            )
            for n in np.flatnonzero(~np.isin(columns["alu_op"], [int(a) for a in AluOp]))
        )
    zeros = np.zeros(len(where), np.int64)
    names = (
        "reset",
        "uop_begin",
        "uop_end",
        "iter_out",
        "iter_in",
        "dst_factor_out",
        "dst_factor_in",
        "src_factor_out",
        "src_factor_in",
        "wgt_factor_out",
        "wgt_factor_in",
        "alu_op",
        "use_imm",
        "imm",
    )
    lists = [columns.get(name, zeros).tolist() for name in names]
    decoded = [
        (i, LoopOp(i, is_alu, *values)) for i, *values in zip(where.tolist(), *lists, strict=True)
    ]
    return findings, decoded
