"""Follows plain DRAM accesses: known micro-ops, bounds, races (VTA specification §5, §11)."""

from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ginseng.isa.config import Memory
from ginseng.isa.insn import INSN_BYTES, Queue
from ginseng.isa.legality.finding import Report, Rule
from ginseng.isa.legality.order import Order
from ginseng.isa.legality.stream import MemOp, Stream

__all__ = ["ADDRESS_SPACE", "Dram", "MemorySide", "ReadDram"]

#: ``read(address, count)`` returns ``count`` bytes, or fewer where there is no DRAM.
ReadDram = Callable[[int, int], bytes]

#: Bytes that plain element addresses reach; they wrap at it.
ADDRESS_SPACE: Final = 1 << 32


class MemorySide(Protocol):
    """What follows the DRAM side of transfers, in stream order."""

    def load(self, op: MemOp) -> bytes | None:
        """Follow a LOAD; return what a load of micro-ops finds, dense, or None if unknown."""
        ...

    def store(self, op: MemOp) -> None:
        """Follow a STORE."""
        ...

    def finish(self, index: int) -> None:
        """Note the end of the stream, at instruction ``index``."""
        ...


class _Block(NamedTuple):
    """Rows of ``nbytes`` bytes from ``start`` on, ``stride`` bytes apart; they do not wrap."""

    start: int
    rows: int
    nbytes: int
    stride: int

    @property
    def end(self) -> int:
        return self.start + (self.rows - 1) * self.stride + self.nbytes


class _Region:
    """Neighbouring DRAM that both loads and stores touch, one cell per smallest element.

    Cells hold 1 + the number of the queue's last instruction that touched them, 0 for none.
    """

    def __init__(self, start: int, end: int, cell: int, slack: int) -> None:
        self.start, self.cell = start, cell
        # Slack lets a block of rows be cut as a rectangle. Zero pages cost nothing until written.
        cells = -(-(end - start) // cell) + -(-slack // cell)
        self.written = np.zeros(cells, np.uint32)
        self.read = {
            Queue.LOAD.value: np.zeros(cells, np.uint32),
            Queue.COMPUTE.value: np.zeros(cells, np.uint32),
        }

    def view(self, cells: NDArray[np.uint32], block: _Block) -> NDArray[np.uint32]:
        """Return the cells of ``block``, one row each."""
        first, width = (block.start - self.start) // self.cell, block.nbytes // self.cell
        if block.rows == 1:
            return cells[first : first + width]
        stride = block.stride // self.cell
        return cells[first : first + block.rows * stride].reshape(block.rows, stride)[:, :width]


class Dram:
    """The DRAM side of a build without TEC; base registers are zero."""

    def __init__(
        self,
        stream: Stream,
        order: Order,
        report: Report,
        *,
        read: ReadDram,
        size: int,
        instructions_at: int | None,
    ) -> None:
        self._stream, self._order, self._report = stream, order, report
        self._read, self._size = read, size
        config = stream.isa.config
        self._bytes = {int(memory): config.element_bytes(memory) for memory in Memory}
        self._code = range(0)
        if instructions_at is not None:
            self._code = range(instructions_at, instructions_at + stream.count * INSN_BYTES)
        self._regions = self._find_regions()
        self._ends = np.array(self._region_ends, np.int64)

    def load(self, op: MemOp) -> bytes | None:
        """Follow a LOAD."""
        if not op.rows:
            return b""
        blocks = self._blocks(op)
        inside = self._inside(op, blocks)
        clock = self._order.clocks[op.insn]
        queue = self._stream.queue[op.insn]
        stamp = self._order.numbers[op.insn] + 1
        stored = False
        for region, block in self._contested(blocks):
            written = region.view(region.written, block)
            last = int(written.max())
            stored |= last > 0
            if last > clock[Queue.STORE.value]:
                self._race(op, region, block, written, "reads", Queue.STORE.value, "writes")
            region.view(region.read[queue], block)[...] = stamp
        if op.memory != Memory.UOP:
            return b""
        if stored:
            self._report.add(
                op.insn,
                Rule.MICRO_OPS,
                f"loads micro-ops from byte {blocks[0].start:#x}, which an earlier STORE wrote; "
                "micro-ops must be known before the program runs",
            )
            return None
        return self._fetch(op) if inside else None

    def store(self, op: MemOp) -> None:
        """Follow a STORE."""
        blocks = self._blocks(op)
        self._inside(op, blocks)
        clock = self._order.clocks[op.insn]
        stamp = self._order.numbers[op.insn] + 1
        for block in blocks:
            if self._code and block.start < self._code.stop and self._code.start < block.end:
                self._overwrites_code(op, block)
        for region, block in self._contested(blocks):
            for queue, cells in region.read.items():
                view = region.view(cells, block)
                if int(view.max()) > clock[queue]:
                    self._race(op, region, block, view, "overwrites", queue, "reads")
            region.view(region.written, block)[...] = stamp

    def finish(self, index: int) -> None:
        """Nothing is owed at the end."""

    def _blocks(self, op: MemOp) -> list[_Block]:
        """Return the bytes of a transfer; element addresses wrap at 2**32."""
        size = self._bytes[op.memory]
        start, stride, nbytes = op.dram * size, op.stride * size, op.row_elements * size
        rows = op.rows
        if rows > 1 and stride <= nbytes:
            nbytes, rows = (rows - 1) * stride + nbytes, 1
        block = _Block(start % ADDRESS_SPACE, rows, nbytes, stride)
        if block.end <= ADDRESS_SPACE:
            return [block]
        parts: list[_Block] = []
        for row in range(rows):
            low, left = start + row * stride, nbytes
            while left:
                at = low % ADDRESS_SPACE
                part = min(left, ADDRESS_SPACE - at)
                parts.append(_Block(at, 1, part, stride))
                low, left = low + part, left - part
        return parts

    def _find_regions(self) -> list[_Region]:
        """Merge all transfers into disjoint regions; keep those with both loads and stores."""
        spans = [
            (block.start, block.end, not op.is_load, self._bytes[op.memory], block.stride)
            for op in self._stream.operations
            if isinstance(op, MemOp) and op.rows
            for block in self._blocks(op)
        ]
        spans.sort()
        regions: list[_Region] = []
        self._region_ends: list[int] = []
        at = 0
        while at < len(spans):
            start, end, _, cell, slack = spans[at]
            kinds = {spans[at][2]}
            at += 1
            while at < len(spans) and spans[at][0] < end:
                end, cell = max(end, spans[at][1]), min(cell, spans[at][3])
                slack = max(slack, spans[at][4])
                kinds.add(spans[at][2])
                at += 1
            if len(kinds) == 2:
                regions.append(_Region(start, end, cell, slack))
                self._region_ends.append(end)
        return regions

    def _contested(self, blocks: list[_Block]) -> list[tuple[_Region, _Block]]:
        """Return the blocks that lie in a region; a block lies in one or in none."""
        found = []
        for block in blocks:
            n = int(np.searchsorted(self._ends, block.start, "right"))
            if n < len(self._regions) and self._regions[n].start <= block.start:
                found.append((self._regions[n], block))
        return found

    def _inside(self, op: MemOp, blocks: list[_Block]) -> bool:
        end = max(block.end for block in blocks)
        if end <= self._size:
            return True
        self._report.add(
            op.insn,
            Rule.DRAM_RANGE,
            f"the transfer ends at byte {end:#x}, the DRAM has {self._size:#x} bytes",
        )
        return False

    def _fetch(self, op: MemOp) -> bytes | None:
        size = self._bytes[op.memory]
        found: list[bytes] = []
        for row in range(op.rows):
            at = (op.dram + row * op.stride) * size % ADDRESS_SPACE
            want = op.row_elements * size
            first = min(want, ADDRESS_SPACE - at)
            words = self._read(at, first)
            if first < want:
                words += self._read(0, want - first)
            if len(words) != want:
                self._report.add(
                    op.insn,
                    Rule.DRAM_RANGE,
                    f"{want} bytes of micro-ops are wanted at byte {at:#x}, {len(words)} are there",
                )
                return None
            found.append(words)
        return b"".join(found)

    def _overwrites_code(self, op: MemOp, block: _Block) -> None:
        for start in (block.start + row * block.stride for row in range(block.rows)):
            if start < self._code.stop and self._code.start < start + block.nbytes:
                self._report.add(
                    op.insn,
                    Rule.RACE,
                    f"overwrites byte {max(start, self._code.start):#x} of the instruction stream, "
                    "which is fetched at any time",
                )
                return

    def _race(
        self,
        op: MemOp,
        region: _Region,
        block: _Block,
        view: NDArray[np.uint32],
        does: str,
        other: int,
        did: str,
    ) -> None:
        complete = self._order.clocks[op.insn][other]
        place = np.argwhere(view > complete)[0]
        row, column = (0, int(place[0])) if view.ndim == 1 else (int(place[0]), int(place[1]))
        address = block.start + row * block.stride + column * region.cell
        earlier = self._order.members[other][int(view[tuple(place)]) - 1]
        self._report.add(
            op.insn,
            Rule.RACE,
            f"{does} DRAM byte {address:#x} while instruction {earlier} of the "
            f"{Queue(other).name} queue, which {did} it, may still run; no token orders them",
        )
