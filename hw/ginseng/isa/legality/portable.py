"""The portable subset: what every known VTA implementation gets right (VTA specification §11.7)."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from ginseng.isa.config import Memory
from ginseng.isa.insn import AluOp, Opcode, Queue
from ginseng.isa.legality.finding import Report, Rule
from ginseng.isa.legality.order import Order
from ginseng.isa.legality.scratchpads import MicroOps
from ginseng.isa.legality.stream import SCRATCHPADS, LoopOp, MemOp, Stream

__all__ = ["Portable"]

#: Micro-ops that the Chisel design holds (§9, row 9).
UOP_DEPTH: Final = 2048
#: Tokens at which the Chisel design's 8-bit counters lose one (§9, row 16).
_TOKENS: Final = 256
#: Steps between two uses of an accumulator in one instruction (§9, rows 14 and 15).
REUSE_DISTANCE: Final = 8
#: Immediate shifts, as HLS reads them (§9, row 6).
SHIFTS: Final = range(-16, 16)


class Portable:
    """Follows a stream and reports what is legal, but differs between implementations.

    Amounts of tensor shifts (0 to 15 are portable) are data, so they are not checked.
    """

    def __init__(self, stream: Stream, order: Order, report: Report) -> None:
        self._stream, self._report = stream, report
        #: Accumulators last written by a GEMM that accumulates, or by the ALU.
        self._computed = 0
        self._reuse: dict[tuple[object, ...], int | None] = {}
        for (source, target), (most, index) in order.outstanding.items():
            if most >= _TOKENS:
                self._add(
                    index,
                    f"up to {most} tokens from {Queue(source).name} to {Queue(target).name} are "
                    f"outstanding, fewer than {_TOKENS} are portable",
                )
        moving = {op.insn for op in stream.operations}
        for index, opcode in enumerate(stream.opcode):
            if opcode in (Opcode.LOAD, Opcode.STORE) and index not in moving:
                self._idle(index)

    def load(self, op: MemOp) -> None:
        """Follow a LOAD."""
        memory = Memory(op.memory)
        padded = op.y_pad_0 or op.y_pad_1 or op.x_pad_0 or op.x_pad_1
        if not op.rows:
            self._add(op.insn, "y_size is 0, counts of 1 or more are portable")
        if memory is Memory.ACC_8BIT:
            self._add(op.insn, "ACC_8BIT loads are not portable; load ACC")
        if memory in (Memory.UOP, Memory.WGT) and padded:
            self._add(op.insn, f"padding of {memory.name} is not portable")
        if memory is Memory.UOP:
            if op.rows > 1:
                self._add(op.insn, f"{op.rows} rows of micro-ops, 1 is portable")
            self._micro_op_limit(op.insn, op.sram + op.covered)
        if SCRATCHPADS[memory] is Memory.ACC:
            self._computed &= ~(((1 << op.covered) - 1) << op.sram)

    def loop(self, op: LoopOp, looped: tuple[MicroOps, int] | None) -> None:
        """Follow a GEMM or ALU; ``looped`` is what `Scratchpads.loop` gave."""
        counts = (op.uop_end - op.uop_begin, op.iter_out, op.iter_in)
        if min(counts) < 1:
            self._add(
                op.insn,
                f"micro-ops, iter_out and iter_in are {counts[0]}, {counts[1]}, {counts[2]}; "
                "counts of 1 or more are portable",
            )
        self._micro_op_limit(op.insn, op.uop_end)
        if op.is_alu:
            self._alu(op)
        if looped is None:
            return
        micro_ops, dst = looped
        if op.is_alu and op.use_imm and not _same(op, micro_ops):
            self._add(op.insn, "an immediate operation with src other than dst is not portable")
        # Resets may meet: they write a constant and read nothing. So may steps whose accumulators
        # are all distinct.
        steps = counts[0] * counts[1] * counts[2]
        if (op.is_alu or not op.reset) and (
            dst.bit_count() < steps or (op.is_alu and not op.use_imm)
        ):
            key = (micro_ops, op.is_alu, op.use_imm, *op.loops)
            if key not in self._reuse:
                self._reuse[key] = _reuse_distance(op, micro_ops)
            distance = self._reuse[key]
            if distance is not None:
                self._add(
                    op.insn,
                    f"an accumulator is used again after {distance} steps, "
                    f"{REUSE_DISTANCE} or more are portable",
                )
        if op.is_alu or not op.reset:
            self._computed |= dst
        else:
            self._computed &= ~dst

    def store(self, op: MemOp, bits: int) -> None:
        """Follow a STORE of the accumulators ``bits``."""
        if not op.rows:
            self._add(op.insn, "y_size is 0, counts of 1 or more are portable")
        other = bits & ~self._computed
        if other:
            self._add(
                op.insn,
                f"stores ACC {(other & -other).bit_length() - 1}, last written by a LOAD or a "
                "reset; only results of GEMM and ALU are portable",
            )

    def _add(self, index: int, message: str) -> None:
        self._report.add(index, Rule.PORTABLE, message)

    def _idle(self, index: int) -> None:
        """A transfer of nothing: some designs write its padding, others count its rows."""
        insn = self._stream.decode(index)
        pads = [insn[name] for name in insn.fields if "_pad_" in name]
        if any(pads):
            self._add(index, f"pads {pads} of a transfer with x_size 0 must be 0 to be portable")
        if insn["x_size"] and not insn["y_size"]:
            self._add(index, "y_size is 0, counts of 1 or more are portable")

    def _micro_op_limit(self, index: int, end: int) -> None:
        if end > UOP_DEPTH:
            self._add(
                index, f"micro-op {end - 1} is used, the portable ones end at {UOP_DEPTH - 1}"
            )

    def _alu(self, op: LoopOp) -> None:
        if op.alu_op == AluOp.MUL:
            self._add(op.insn, "MUL is not portable")
        if op.alu_op == AluOp.SHR and op.use_imm and op.imm not in SHIFTS:
            self._add(
                op.insn,
                f"a shift by {op.imm} is not portable, {SHIFTS[0]} to {SHIFTS[-1]} are",
            )


def _same(op: LoopOp, micro_ops: MicroOps) -> bool:
    """Whether src and dst are the same index in every step."""
    return (
        bool((micro_ops.columns["dst"] == micro_ops.columns["src"]).all())
        and (op.iter_out == 1 or op.dst_out == op.src_out)
        and (op.iter_in == 1 or op.dst_in == op.src_in)
    )


def _ends(count: int) -> NDArray[np.int64]:
    """Iterations that show every neighbourhood of fewer than `REUSE_DISTANCE` steps."""
    if count <= 2 * REUSE_DISTANCE:
        return np.arange(count, dtype=np.int64)
    first = np.arange(REUSE_DISTANCE, dtype=np.int64)
    return np.concatenate((first, first + count - REUSE_DISTANCE))


def _reuse_distance(op: LoopOp, micro_ops: MicroOps) -> int | None:
    """Return the least distance below the portable one at which a step uses an earlier result.

    Whether two steps meet depends on the difference of their iterations only, so the first and
    last few iterations of each loop stand for all.
    """
    outer, inner = _ends(op.iter_out)[:, None, None], _ends(op.iter_in)[None, :, None]
    at = np.arange(len(micro_ops.columns["dst"]))[None, None, :]
    step = ((outer * op.iter_in + inner) * at.size + at).reshape(-1)
    dst = outer * op.dst_out + inner * op.dst_in + micro_ops.columns["dst"]
    uses = [dst.reshape(-1)]
    if op.is_alu and not op.use_imm:
        uses.append((outer * op.src_out + inner * op.src_in + micro_ops.columns["src"]).reshape(-1))
    results = uses[0]
    for distance in range(1, REUSE_DISTANCE):
        neighbours = step[distance:] - step[:-distance] == distance
        for use in uses:
            if bool((neighbours & (use[distance:] == results[:-distance])).any()):
                return distance
    return None
