"""Follows transfers through the tensor table (TEC specification §2, §3 and §6)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from ginseng.isa.config import Memory, TecConfig
from ginseng.isa.formats import chunk_count
from ginseng.isa.insn import Queue
from ginseng.isa.legality.finding import Report, Rule
from ginseng.isa.legality.order import Order
from ginseng.isa.legality.stream import MemOp, Stream
from ginseng.isa.table import STORE_SPAN, Domain, Permission

__all__ = ["TensorLike", "TensorRule", "TensorSide"]

_STORE: Final = Queue.STORE.value


class TensorLike(Protocol):
    """What the checker needs of a row; `ginseng.program.TensorSpec` has it. Sizes are bytes."""

    @property
    def handle(self) -> int:
        """Index of the row."""
        ...

    @property
    def domain(self) -> int:
        """A `Domain`."""
        ...

    @property
    def permissions(self) -> int:
        """Sum of `Permission`."""
        ...

    @property
    def chunk(self) -> int:
        """Unit of authentication."""
        ...

    @property
    def length(self) -> int:
        """Size of the tensor."""
        ...


@dataclass(frozen=True)
class TensorRule:
    """A plain `TensorLike`, for callers that have no table of their own."""

    handle: int
    domain: int
    permissions: int
    chunk: int
    length: int


class _Tensor:
    """A row and, if it is writable, which STORE completed each chunk."""

    def __init__(self, row: TensorLike) -> None:
        self.handle, self.domain = row.handle, row.domain
        self.chunk, self.length = row.chunk, row.length
        self.readable = bool(row.permissions & Permission.R)
        self.writable = bool(row.permissions & Permission.W)
        chunks = chunk_count(row.length, row.chunk) if self.writable else 0
        #: Whether a store began the chunk.
        self.begun = np.zeros(chunks, np.bool_)
        #: 1 + number of the STORE that completed the chunk, 0 for none.
        self.completed = np.zeros(chunks, np.uint32)

    def chunk_end(self, index: int) -> int:
        """Return the first byte behind a chunk."""
        return min((index + 1) * self.chunk, self.length)


@dataclass
class _Open:
    """The chunk that the store stream is in the middle of."""

    tensor: _Tensor
    chunk: int
    next_byte: int
    stores: int
    index: int


class TensorSide:
    """The DRAM side of a build with TEC.

    Parameters
    ----------
    stream, order, report
        What was read, and where findings go.
    tec : TecConfig
        Where the handle ends in ``dram_base``.
    rows : iterable of TensorLike
    contents : mapping of int to bytes
        By handle, the bytes of the domain-3 tensors that hold micro-ops.

    """

    def __init__(
        self,
        stream: Stream,
        order: Order,
        report: Report,
        *,
        tec: TecConfig,
        rows: Iterable[TensorLike],
        contents: Mapping[int, bytes],
    ) -> None:
        self._stream, self._order, self._report = stream, order, report
        self._offset_bits = tec.offset_bits
        self._tensors: dict[int, _Tensor] = {}
        self._add_rows(rows, tec.bitmap_bits)
        self._contents = contents
        config = stream.isa.config
        self._bytes = {int(memory): config.element_bytes(memory) for memory in Memory}
        self._open: _Open | None = None

    def _add_rows(self, rows: Iterable[TensorLike], bits: int) -> None:
        """Take the rows that can be followed at all; those that cannot are reported, at 0."""
        for row in rows:
            if row.chunk <= 0 or row.length <= 0:
                self._report.add(
                    0,
                    Rule.TABLE,
                    f"tensor {row.handle} has {row.length} bytes in chunks of {row.chunk}, both "
                    "must be positive",
                )
            elif row.handle in self._tensors:
                self._report.add(0, Rule.TABLE, f"tensor {row.handle} has two rows")
            else:
                if row.permissions & Permission.W:
                    bits -= chunk_count(row.length, row.chunk)
                    if bits < 0:
                        self._report.add(
                            0,
                            Rule.TABLE,
                            f"tensor {row.handle} needs {-bits} more bits than the written bitmap "
                            "has; choose larger chunks",
                        )
                        return
                self._tensors[row.handle] = _Tensor(row)

    def load(self, op: MemOp) -> bytes | None:
        """Follow a LOAD."""
        if not op.rows:
            return b""
        found = self._locate(op)
        if found is None:
            return None
        tensor, first, step, nbytes = found
        if not tensor.readable:
            self._report.add(
                op.insn,
                Rule.PERMISSION,
                f"loads from tensor {tensor.handle}, whose row has no R",
            )
            return None
        rows = range(first, first + op.rows * step, step) if step else (first,) * op.rows
        if tensor.writable:
            self._reads_written(op, tensor, rows, nbytes)
        if op.memory != Memory.UOP:
            return b""
        if tensor.domain != Domain.PROGRAM:
            self._report.add(
                op.insn,
                Rule.DOMAIN,
                f"loads micro-ops from tensor {tensor.handle} of domain {int(tensor.domain)}, "
                f"they come from domain {int(Domain.PROGRAM)} only",
            )
            return None
        content = self._contents.get(tensor.handle, b"")
        if len(content) < rows[-1] + nbytes:
            self._report.add(
                op.insn,
                Rule.MICRO_OPS,
                f"loads micro-ops up to byte {rows[-1] + nbytes} of tensor {tensor.handle}, "
                f"whose contents were given for {len(content)} bytes",
            )
            return None
        return b"".join(content[start : start + nbytes] for start in rows)

    def store(self, op: MemOp) -> None:
        """Follow a STORE."""
        if not op.rows:
            return
        found = self._locate(op)
        if found is None:
            return
        tensor, first, step, nbytes = found
        if not tensor.writable:
            self._report.add(
                op.insn,
                Rule.PERMISSION,
                f"stores to tensor {tensor.handle}, whose row has no W",
            )
            return
        if self._open is not None:
            self._open.stores += 1
            if self._open.stores == STORE_SPAN + 1:
                self._report.add(
                    op.insn,
                    Rule.STORE_SPAN,
                    f"chunk {self._open.chunk} of tensor {self._open.tensor.handle} continues over "
                    f"store {self._open.stores}, the limit is {STORE_SPAN}",
                )
        if step == nbytes or op.rows == 1:
            self._write(op, tensor, first, first + op.rows * nbytes)
            return
        for row in range(op.rows):
            self._write(op, tensor, first + row * step, first + row * step + nbytes)

    def finish(self, index: int) -> None:
        """Report what is unwritten at the end."""
        if self._open is not None:
            self._report.add(
                index,
                Rule.CHUNK,
                f"chunk {self._open.chunk} of tensor {self._open.tensor.handle} is incomplete at "
                f"the end: written up to byte {self._open.next_byte} of "
                f"{self._open.tensor.chunk_end(self._open.chunk)}",
            )
        for tensor in self._tensors.values():
            if tensor.domain != Domain.EXPORT or not tensor.writable:
                continue
            missing = np.flatnonzero(tensor.completed == 0)
            if len(missing):
                self._report.add(
                    index,
                    Rule.EXPORT,
                    f"chunk {missing[0]} of export {tensor.handle} is not written at the end "
                    f"({len(missing)} of {len(tensor.completed)} chunks)",
                )

    def _locate(self, op: MemOp) -> tuple[_Tensor, int, int, int] | None:
        """Return tensor, first byte, bytes between rows and bytes of a row, all unwrapped."""
        handle, offset = op.dram >> self._offset_bits, op.dram & (1 << self._offset_bits) - 1
        tensor = self._tensors.get(handle)
        if tensor is None:
            self._report.add(
                op.insn,
                Rule.HANDLE,
                f"names tensor {handle}, the table has no such row",
            )
            return None
        size = self._bytes[op.memory]
        last = (offset + (op.rows - 1) * op.stride + op.row_elements) * size
        if last > tensor.length:
            self._report.add(
                op.insn,
                Rule.ROW_RANGE,
                f"its last row ends at byte {last} of tensor {handle}, which has {tensor.length}",
            )
            return None
        return tensor, offset * size, op.stride * size, op.row_elements * size

    def _reads_written(self, op: MemOp, tensor: _Tensor, rows: Sequence[int], nbytes: int) -> None:
        complete = self._order.clocks[op.insn][_STORE]
        end = (rows[-1] + nbytes - 1) // tensor.chunk + 1
        around = tensor.completed[rows[0] // tensor.chunk : end]
        if int(around.min()) and int(around.max()) <= complete:
            return
        for start in rows:
            first, last = start // tensor.chunk, (start + nbytes - 1) // tensor.chunk
            chunks = tensor.completed[first : last + 1]
            bad = np.flatnonzero((chunks == 0) | (chunks > complete))
            if not len(bad):
                continue
            chunk, done = first + int(bad[0]), int(chunks[bad[0]])
            if not done:
                self._report.add(
                    op.insn,
                    Rule.UNWRITTEN,
                    f"reads chunk {chunk} of tensor {tensor.handle}, which no earlier "
                    "instruction wrote completely",
                )
            else:
                self._report.add(
                    op.insn,
                    Rule.RACE,
                    f"reads chunk {chunk} of tensor {tensor.handle} while instruction "
                    f"{self._order.members[_STORE][done - 1]} of the STORE queue, which completes "
                    "it, may still run; no token orders them",
                )
            return

    def _write(self, op: MemOp, tensor: _Tensor, start: int, end: int) -> None:
        """Follow the bytes [start, end) of a store."""
        opened = self._open
        if opened is not None:
            if opened.tensor is not tensor or start != opened.next_byte:
                self._report.add(
                    op.insn,
                    Rule.CHUNK,
                    f"writes tensor {tensor.handle} from byte {start}; chunk {opened.chunk} of "
                    f"tensor {opened.tensor.handle}, begun by instruction {opened.index}, goes on "
                    f"at byte {opened.next_byte}",
                )
                self._open = opened = None
            else:
                limit = tensor.chunk_end(opened.chunk)
                if end < limit:
                    opened.next_byte = end
                    return
                tensor.completed[opened.chunk] = self._order.numbers[op.insn] + 1
                self._open = None
                start = limit
                if start == end:
                    return
        first, last = start // tensor.chunk, (end - 1) // tensor.chunk
        if start != first * tensor.chunk:
            self._report.add(
                op.insn,
                Rule.CHUNK,
                f"writes tensor {tensor.handle} from byte {start}, inside chunk {first} that "
                f"begins at byte {first * tensor.chunk}",
            )
        again = np.flatnonzero(tensor.begun[first : last + 1])
        if len(again):
            self._report.add(
                op.insn,
                Rule.SINGLE_ASSIGNMENT,
                f"writes chunk {first + int(again[0])} of tensor {tensor.handle} again; each chunk "
                "is written at most once in a run",
            )
        tensor.begun[first : last + 1] = True
        whole = last + 1
        if end < tensor.chunk_end(last):
            whole = last
            self._open = _Open(tensor, last, end, 1, op.insn)
        tensor.completed[first:whole] = self._order.numbers[op.insn] + 1
