"""Follows every access to a scratchpad element: ranges, initialisation and races."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from ginseng.isa.config import Memory
from ginseng.isa.insn import UOP_BYTES, Queue
from ginseng.isa.legality.finding import Report, Rule
from ginseng.isa.legality.order import Order, Window
from ginseng.isa.legality.stream import SCRATCHPADS, LoopOp, MemOp, Stream

__all__ = ["MicroOps", "Scratchpads"]

#: Micro-ops of the shapes that are remembered, at most.
_REMEMBERED: Final = 1 << 19

_COMPUTE, _STORE, _LOAD = Queue.COMPUTE.value, Queue.STORE.value, Queue.LOAD.value


def _span(start: int, count: int) -> int:
    """Set of ``count`` elements from ``start`` on."""
    return ((1 << count) - 1) << start


def _lowest(bits: int) -> int:
    return (bits & -bits).bit_length() - 1


def _repeat(bits: int, step: int, count: int) -> int:
    """Union of ``bits`` moved up by 0, ``step``, ... ``(count - 1) * step``."""
    if not step:
        return bits
    done = 1
    while done < count:
        more = min(done, count - done)
        bits |= bits << more * step
        done += more
    return bits


class MicroOps:
    """A range of micro-ops: per operand the greatest index and the set of all of them."""

    def __init__(self, stream: Stream, words: bytes) -> None:
        self.columns: Final = stream.isa.uop.columns(words)
        self._bits: dict[str, int] = {}

    def greatest(self, operand: str, out: int, inner: int, op: LoopOp) -> int:
        """Return the greatest index that ``operand`` takes in the loops of ``op``."""
        reach = (op.iter_out - 1) * out + (op.iter_in - 1) * inner
        return int(self.columns[operand].max()) + reach

    def touched(self, operand: str, out: int, inner: int, op: LoopOp) -> int:
        """Return the set of indices that ``operand`` takes; they must be in range."""
        bits = self._bits.get(operand)
        if bits is None:
            column = self.columns[operand]
            mask = np.zeros(int(column.max()) + 1, np.uint8)
            mask[column] = 1
            bits = int.from_bytes(np.packbits(mask, bitorder="little").tobytes(), "little")
            self._bits[operand] = bits
        return _repeat(_repeat(bits, inner, op.iter_in), out, op.iter_out)


class Scratchpads:
    """State of UOP, INP, WGT and ACC along the stream, element-wise.

    Sets of elements are integers (bit n for element n). Who conflicts with whom: INP and WGT are
    written by the LOAD queue and read by COMPUTE; ACC is written by COMPUTE and read by STORE; UOP
    belongs to COMPUTE alone.
    """

    def __init__(self, stream: Stream, order: Order, report: Report) -> None:
        self._stream, self._order, self._report = stream, order, report
        config = stream.isa.config
        self._depth = {memory: config.depth(memory) for memory in set(SCRATCHPADS.values())}
        self._written = dict.fromkeys(self._depth, 0)
        self._micro_ops: NDArray[np.uint32] = np.zeros(self._depth[Memory.UOP], "<u4")
        self._ranges: dict[tuple[int, int], MicroOps] = {}
        self._remembered = 0
        self._by_content: dict[bytes, MicroOps] = {}
        self._sets: dict[tuple[object, ...], tuple[tuple[str, ...], tuple[int, ...]]] = {}
        self._filled = {memory: Window() for memory in (Memory.INP, Memory.WGT)}
        self._used = {memory: Window() for memory in (Memory.INP, Memory.WGT)}
        self._computed = Window()
        self._stored = Window()

    def load(self, op: MemOp, content: bytes | None) -> None:
        """Follow a LOAD; ``content`` is what a load of micro-ops finds in DRAM."""
        memory = SCRATCHPADS[Memory(op.memory)]
        bits = _span(op.sram, op.covered)
        number = self._order.numbers[op.insn]
        if memory is Memory.UOP:
            self._fill_micro_ops(op, content)
        elif memory is Memory.ACC:
            self._race(op.insn, self._stored, _STORE, memory, bits, "overwrites", "reads")
            self._computed.add(number, bits)
        else:
            used = self._used[memory]
            self._race(op.insn, used, _COMPUTE, memory, bits, "overwrites", "reads")
            self._filled[memory].add(number, bits)
        self._written[memory] |= bits

    def loop(self, op: LoopOp) -> tuple[MicroOps, int] | None:
        """Follow a GEMM or ALU; return its micro-ops and the accumulators that it writes.

        None if it does nothing, or its micro-ops are out of range.
        """
        if op.uop_end <= op.uop_begin or not op.iter_out or not op.iter_in:
            return None
        depth = self._depth[Memory.UOP]
        if op.uop_end > depth:
            self._report.add(
                op.insn,
                Rule.UOP_RANGE,
                f"uop_end {op.uop_end} is beyond the {depth} micro-ops of the scratchpad",
            )
            return None
        span = _span(op.uop_begin, op.uop_end - op.uop_begin)
        self._initialised(op.insn, Memory.UOP, span)
        micro_ops = self._range(op.uop_begin, op.uop_end)
        problems, (dst, src, wgt) = self._operands(op, micro_ops)
        for problem in problems:
            self._report.add(op.insn, Rule.INDEX_RANGE, problem)
        number = self._order.numbers[op.insn]
        self._race(op.insn, self._stored, _STORE, Memory.ACC, dst, "overwrites", "reads")
        self._computed.add(number, dst)
        if op.is_alu:
            self._initialised(op.insn, Memory.ACC, dst | src)
        elif op.reset:
            self._written[Memory.ACC] |= dst
        else:
            self._initialised(op.insn, Memory.ACC, dst)
            for memory, bits in ((Memory.INP, src), (Memory.WGT, wgt)):
                self._initialised(op.insn, memory, bits)
                self._race(op.insn, self._filled[memory], _LOAD, memory, bits, "reads", "fills")
                self._used[memory].add(number, bits)
        return micro_ops, dst

    def store(self, op: MemOp) -> int:
        """Follow a STORE; return the accumulators that it reads."""
        bits = _span(op.sram, op.covered)
        self._race(op.insn, self._computed, _COMPUTE, Memory.ACC, bits, "reads", "writes")
        self._initialised(op.insn, Memory.ACC, bits)
        self._stored.add(self._order.numbers[op.insn], bits)
        return bits

    def _fill_micro_ops(self, op: MemOp, content: bytes | None) -> None:
        self._ranges.clear()
        width = op.x_pad_0 + op.row_elements + op.x_pad_1
        image = np.zeros((op.covered // width, width), "<u4")
        if content is not None and op.rows:
            words = np.frombuffer(content, "<u4", op.rows * op.row_elements)
            rows = slice(op.y_pad_0, op.y_pad_0 + op.rows)
            columns = slice(op.x_pad_0, op.x_pad_0 + op.row_elements)
            image[rows, columns] = words.reshape(op.rows, op.row_elements)
        self._micro_ops[op.sram : op.sram + op.covered] = image.reshape(-1)

    def _range(self, begin: int, end: int) -> MicroOps:
        found = self._ranges.get((begin, end))
        if found is None:
            words = self._micro_ops[begin:end].tobytes()
            assert len(words) == (end - begin) * UOP_BYTES
            found = self._by_content.get(words)
            if found is None:
                self._remembered += end - begin
                if self._remembered > _REMEMBERED:
                    self._forget()
                found = self._by_content[words] = MicroOps(self._stream, words)
            self._ranges[begin, end] = found
        return found

    def _forget(self) -> None:
        """Drop every shape seen so far: a hostile program must not fill memory with them."""
        self._remembered = 0
        self._ranges.clear()
        self._by_content.clear()
        self._sets.clear()

    def _operands(self, op: LoopOp, micro_ops: MicroOps) -> tuple[tuple[str, ...], tuple[int, ...]]:
        """Return what is out of range, and the sets of dst, src and wgt; empty where it is."""
        # Programs repeat few shapes many times, so the sets are kept by everything they depend on.
        key = (micro_ops, op.is_alu, op.is_alu or op.reset, op.use_imm, *op.loops)
        found = self._sets.get(key)
        if found is not None:
            return found
        source = Memory.ACC if op.is_alu else Memory.INP
        # A reset uses no source, but an ALU's src must be in range even where use_imm ignores it.
        checked = [("dst", Memory.ACC, op.dst_out, op.dst_in)]
        if op.is_alu or not op.reset:
            checked.append(("src", source, op.src_out, op.src_in))
        if not op.is_alu and not op.reset:
            checked.append(("wgt", Memory.WGT, op.wgt_out, op.wgt_in))
        problems: list[str] = []
        sets = {"dst": 0, "src": 0, "wgt": 0}
        for operand, memory, out, inner in checked:
            greatest = micro_ops.greatest(operand, out, inner, op)
            if greatest >= self._depth[memory]:
                problems.append(
                    f"{operand} reaches {memory.name} {greatest}, "
                    f"the scratchpad ends at {self._depth[memory] - 1}"
                )
            elif operand != "src" or not op.use_imm:
                sets[operand] = micro_ops.touched(operand, out, inner, op)
        found = self._sets[key] = (tuple(problems), (sets["dst"], sets["src"], sets["wgt"]))
        return found

    def _initialised(self, index: int, memory: Memory, bits: int) -> None:
        missing = bits & ~self._written[memory]
        if missing:
            # Reported once: what was read is taken to be there from now on.
            self._written[memory] |= missing
            self._report.add(
                index,
                Rule.UNINITIALISED,
                lambda: (
                    f"reads {memory.name} {_lowest(missing)}, which nothing has written "
                    f"({missing.bit_count()} such elements)"
                ),
            )

    def _race(
        self, index: int, window: Window, other: int, memory: Memory, bits: int, does: str, did: str
    ) -> None:
        clash = window.pending(self._order.clocks[index][other]) & bits
        if clash:

            def message() -> str:
                element = _lowest(clash)
                earlier = self._order.members[other][window.culprit(element)]
                return (
                    f"{does} {memory.name} {element} while instruction {earlier} of the "
                    f"{Queue(other).name} queue, which {did} it, may still run; no token orders "
                    f"them ({clash.bit_count()} such elements)"
                )

            self._report.add(index, Rule.RACE, message)
