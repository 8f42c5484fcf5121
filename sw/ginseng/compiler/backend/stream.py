"""The instruction stream: three queues, ordered by the fewest tokens that keep it race-free.

Instructions are added in an order in which they could run one by one. For each, the stream looks
up which earlier instruction of another queue last touched what it touches (scratchpad elements,
DRAM elements of activations), and makes it wait for that one: a token is pushed there and popped
here, unless an earlier pop of this queue already implies it. On each of the four channels both
ends then appear in strictly rising order, so the n-th pop meets the n-th push, every pop has its
push earlier in the stream, and all counters end at zero (VTA specification §4, §11). Whatever the
load queue needs from the store queue goes through an instruction of the compute queue.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ginseng.compiler.backend.instruction import CHANNELS, ONCE, Insn, Loop, Uops
from ginseng.compiler.backend.kernels import Kernel, Kernels, merged
from ginseng.compiler.backend.segment import Access, Segment
from ginseng.isa.config import CoreConfig, Memory
from ginseng.isa.insn import UOP_BYTES, AluOp, Opcode, Queue

__all__ = ["Stream"]

#: Kernels of at most so many micro-ops (resets, ALU passes) are loaded with the layer's first.
_SMALL: Final = 4
#: Least micro-ops of a later load of several kernels.
_GROUP: Final = 128
_L, _C, _S = Queue.LOAD, Queue.COMPUTE, Queue.STORE


@dataclass(slots=True)
class _Channel:
    """What one queue has waited for in another."""

    #: Producers waited for, rising, and the consumers that waited.
    producers: list[int] = field(default_factory=list)
    consumers: list[int] = field(default_factory=list)


class Stream:
    """Collects instructions in a legal order and gives them tokens.

    Parameters
    ----------
    config : CoreConfig
    uops : Segment
        Where kernels will stand; its data are set by `finish`.

    Attributes
    ----------
    insns : list of Insn
    kernels : Kernels

    """

    def __init__(self, config: CoreConfig, uops: Segment) -> None:
        self.config: Final = config
        self.kernels: Final = Kernels(config)
        self.insns: list[Insn] = []
        self._uops: Final = uops
        self._by_index: Final[list[Insn]] = []
        self._layer = 0
        self._layer_begin = 0
        self._channels: Final = {channel: _Channel() for channel in CHANNELS}
        depth = config.depth
        # Index of the last instruction that did this to an element; -1 for none.
        self._loaded: Final = {m: _none(depth(m)) for m in (Memory.INP, Memory.WGT)}
        self._used: Final = {m: _none(depth(m)) for m in (Memory.INP, Memory.WGT)}
        self._computed: Final = _none(depth(Memory.ACC))
        self._stored: Final = _none(depth(Memory.ACC))
        self._written: Final[dict[Segment, NDArray[np.int64]]] = {}

    # ---------------------------------------------------------------- instructions

    def load(
        self,
        memory: Memory,
        segment: Segment,
        offset: int,
        *,
        sram: int,
        cols: int,
        rows: int = 1,
        stride: int = 0,
        pads: tuple[int, int, int, int] = (0, 0, 0, 0),
    ) -> None:
        """Add a LOAD of ``rows`` rows of ``cols`` elements; pads are top, bottom, left, right."""
        insn = self._memory_insn(Opcode.LOAD, memory, segment, offset, sram, cols, rows, stride)
        insn.fields |= dict(zip(("y_pad_0", "y_pad_1", "x_pad_0", "x_pad_1"), pads, strict=True))
        extent = (rows + pads[0] + pads[1]) * (cols + pads[2] + pads[3])
        where = slice(sram, sram + extent)
        store = self._last_store(segment, insn.access)
        if insn.queue is _L:
            compute = int(self._used[memory][where].max())
            if store >= 0:
                compute = max(compute, self._compute_after(store))
            self._append(insn)
            self._wait(_C, insn, compute)
            self._loaded[memory][where] = insn.index
        else:
            self._append(insn)
            if memory is not Memory.UOP:
                self._wait(_S, insn, max(store, int(self._stored[where].max())))
                self._computed[where] = insn.index
                insn.writes = (sram, sram + extent)
        assert insn.access is not None
        segment.reads.append(insn.access)

    def clear(self, segment: Segment, *, sram: int, count: int) -> None:
        """Add a LOAD of nothing but padding: ``count`` elements of INP become 0."""
        fields = {
            "memory": int(Memory.INP),
            "sram_base": sram,
            "y_size": 0,
            "x_size": count,
            "x_stride": count,
            "y_pad_0": 1,
        }
        insn = Insn(Opcode.LOAD, _L, fields, 0, self._layer, segment=segment)
        where = slice(sram, sram + count)
        compute = int(self._used[Memory.INP][where].max())
        self._append(insn)
        self._wait(_C, insn, compute)
        self._loaded[Memory.INP][where] = insn.index

    def store(
        self,
        segment: Segment,
        offset: int,
        *,
        sram: int,
        cols: int,
        rows: int = 1,
        stride: int = 0,
    ) -> None:
        """Add a STORE of ``rows`` rows of ``cols`` elements that lie densely from ``sram`` on."""
        insn = self._memory_insn(
            Opcode.STORE, Memory.OUT, segment, offset, sram, cols, rows, stride
        )
        self._append(insn)
        where = slice(sram, sram + rows * cols)
        self._wait(_C, insn, int(self._computed[where].max()))
        self._stored[where] = insn.index
        access = insn.access
        assert access is not None
        segment.writes.append(access)
        for first, last in self._elements(access):
            self._map(segment)[first:last] = insn.index

    def gemm(
        self, uops: Uops, outer: Loop = ONCE, inner: Loop = ONCE, *, reset: bool = False
    ) -> None:
        """Add a GEMM; with ``reset`` it zeroes ``dst`` and reads nothing."""
        insn = self._loop_insn(Opcode.GEMM, uops, outer, inner)
        insn.fields["reset"] = int(reset)
        if not reset:
            insn.fields["wgt_factor_out"] = outer.wgt
            insn.fields["wgt_factor_in"] = inner.wgt
            spans = {
                Memory.INP: _span(uops.src, outer.count, outer.src, inner.count, inner.src),
                Memory.WGT: _span(uops.wgt, outer.count, outer.wgt, inner.count, inner.wgt),
            }
            self._wait(_L, insn, max(int(self._loaded[m][s].max()) for m, s in spans.items()))
            for memory, span in spans.items():
                self._used[memory][span] = insn.index
        self._touch(insn, uops, outer, inner)

    def alu(
        self,
        op: AluOp,
        uops: Uops,
        outer: Loop = ONCE,
        inner: Loop = ONCE,
        *,
        imm: int | None = None,
    ) -> None:
        """Add an ALU instruction; without ``imm`` its second operand is ``ACC[src]``."""
        insn = self._loop_insn(Opcode.ALU, uops, outer, inner)
        insn.fields["alu_op"] = int(op)
        if imm is not None:
            insn.fields |= {"use_imm": 1, "imm": imm}
        else:
            src = _span(uops.src, outer.count, outer.src, inner.count, inner.src)
            insn.reads = (src.start, src.stop)
        self._touch(insn, uops, outer, inner)

    def begin_layer(self, layer: int) -> None:
        """Start a layer: instructions added from now on belong to it."""
        self._end_layer()
        self._layer = layer

    def finish(self) -> None:
        """Wait for both other queues, then FINISH; nothing may be added after it."""
        ends = {
            queue: max((i.index for i in self.insns if i.queue is queue), default=-1)
            for queue in (_L, _S)
        }
        nop = self._nop()
        for queue, end in ends.items():
            self._wait(queue, nop, end)
        self._append(Insn(Opcode.FINISH, _C, {}, len(self._by_index), self._layer))
        self._end_layer()
        self._uops.data = self.kernels.contents + bytes(-len(self.kernels.contents) % 16)
        self._uops.length = len(self._uops.data)

    # ---------------------------------------------------------------- building blocks

    def _append(self, insn: Insn) -> None:
        insn.index = len(self._by_index)
        self._by_index.append(insn)
        self.insns.append(insn)

    def _nop(self) -> Insn:
        insn = Insn(Opcode.LOAD, _C, {"memory": int(Memory.UOP)}, 0, self._layer)
        self._append(insn)
        return insn

    def _memory_insn(
        self,
        opcode: Opcode,
        memory: Memory,
        segment: Segment,
        offset: int,
        sram: int,
        cols: int,
        rows: int,
        stride: int,
    ) -> Insn:
        nbytes = self.config.element_bytes(memory)
        if rows == 1 or stride == cols:
            # One row, or rows that touch: stated as plainly as possible.
            stride = cols
        fields = {
            "memory": int(memory),
            "sram_base": sram,
            "y_size": rows,
            "x_size": cols,
            "x_stride": stride,
        }
        loads = _L if memory in (Memory.INP, Memory.WGT) else _C
        queue = _S if opcode is Opcode.STORE else loads
        access = Access(offset * nbytes, rows, cols * nbytes, stride * nbytes)
        assert access.begin + (rows - 1) * access.stride + access.row_bytes <= segment.length or (
            memory is Memory.UOP
        )
        return Insn(
            opcode, queue, fields, 0, self._layer, segment=segment, offset=offset, access=access
        )

    def _loop_insn(self, opcode: Opcode, uops: Uops, outer: Loop, inner: Loop) -> Insn:
        fields = {
            "iter_out": outer.count,
            "iter_in": inner.count,
            "dst_factor_out": outer.dst,
            "dst_factor_in": inner.dst,
            "src_factor_out": outer.src,
            "src_factor_in": inner.src,
        }
        kernel = self.kernels.intern(uops.dst, uops.src, uops.wgt)
        steps = kernel.count * outer.count * inner.count
        insn = Insn(opcode, _C, fields, 0, self._layer, steps=steps, kernel=kernel)
        self._append(insn)
        return insn

    def _touch(self, insn: Insn, uops: Uops, outer: Loop, inner: Loop) -> None:
        """Record a write of ACC by the compute queue, after the stores that read it."""
        span = _span(uops.dst, outer.count, outer.dst, inner.count, inner.dst)
        self._wait(_S, insn, int(self._stored[span].max()))
        self._computed[span] = insn.index
        insn.writes = (span.start, span.stop)

    # ---------------------------------------------------------------- order

    def _wait(self, queue: Queue, insn: Insn, producer: int) -> None:
        """Make ``insn`` wait for instruction ``producer`` of ``queue``; -1 is none."""
        channel = self._channels[queue, insn.queue]
        if producer < 0 or (channel.producers and producer <= channel.producers[-1]):
            return
        push, pop = CHANNELS[queue, insn.queue]
        self._by_index[producer].fields[push] = 1
        insn.fields[pop] = 1
        channel.producers.append(producer)
        channel.consumers.append(insn.index)

    def _compute_after(self, store: int) -> int:
        """Return an instruction of the compute queue that runs only after ``store``."""
        channel = self._channels[_S, _C]
        at = bisect_left(channel.producers, store)
        if at == len(channel.producers):
            self._wait(_S, self._nop(), store)
        return channel.consumers[at]

    def _last_store(self, segment: Segment, access: Access | None) -> int:
        """Return the last STORE into what ``access`` reads, -1 if it is no activation."""
        written = self._written.get(segment)
        if written is None or access is None:
            return -1
        return max(int(written[a:b].max()) for a, b in self._elements(access))

    def _map(self, segment: Segment) -> NDArray[np.int64]:
        """Return, for each element of an activation, which STORE wrote it."""
        if segment not in self._written:
            unit = self.config.element_bytes(Memory.OUT)
            self._written[segment] = _none(segment.length // unit)
        return self._written[segment]

    def _elements(self, access: Access) -> list[tuple[int, int]]:
        """Return the element ranges of ``access``."""
        unit = self.config.element_bytes(Memory.OUT)
        begin, length, stride = (
            access.begin // unit,
            access.row_bytes // unit,
            access.stride // unit,
        )
        if access.rows == 1 or stride == length:
            return [(begin, begin + access.rows * length)]
        return [(begin + r * stride, begin + r * stride + length) for r in range(access.rows)]

    # ---------------------------------------------------------------- micro-ops

    def _end_layer(self) -> None:
        """Put the layer's missing kernels into the scratchpad before their first use."""
        layer = self.insns[self._layer_begin :]
        del self.insns[self._layer_begin :]
        at = 0
        while at < len(layer):
            end, needed = self._epoch(layer, at)
            groups = _groups(needed)
            loads = self.kernels.require([kernel for group in groups for kernel in group])
            # Whatever is used first brings its whole group.
            group_of = {kernel: group for group in groups for kernel in group}
            for insn in layer[at:end]:
                if insn.kernel:
                    group = group_of[insn.kernel]
                    for load in merged(loads.pop(k) for k in group if k in loads):
                        self._place_load(load.place, load.sram, load.count)
                    begin = self.kernels.address(insn.kernel)
                    insn.fields |= {"uop_begin": begin, "uop_end": begin + insn.kernel.count}
                self.insns.append(insn)
            at = end
        self._layer_begin = len(self.insns)

    def _epoch(self, layer: Sequence[Insn], at: int) -> tuple[int, list[Kernel]]:
        """Return how far the scratchpad can hold every kernel from ``at`` on, and these."""
        needed: dict[Kernel, None] = {}
        total = 0
        for end in range(at, len(layer)):
            kernel = layer[end].kernel
            if kernel is None or kernel in needed:
                continue
            if total + kernel.count > self.kernels.depth:
                return end, list(needed)
            needed[kernel] = None
            total += kernel.count
        return len(layer), list(needed)

    def _place_load(self, place: int, sram: int, count: int) -> None:
        insn = self._memory_insn(Opcode.LOAD, Memory.UOP, self._uops, place, sram, count, 1, 0)
        insn.layer = self._layer
        self.insns.append(insn)
        self._uops.reads.append(Access(place * UOP_BYTES, 1, count * UOP_BYTES, count * UOP_BYTES))


def _groups(kernels: Sequence[Kernel]) -> list[list[Kernel]]:
    """Return kernels that are loaded together, those first that the first instructions need.

    GEMM waits for as little as possible at the start of a layer; later groups come while it works.
    """
    small = [k for k in kernels if k.count <= _SMALL]
    groups: list[list[Kernel]] = [small]
    for kernel in kernels:
        if kernel.count > _SMALL:
            if len(groups) == 1 or sum(k.count for k in groups[-1]) >= _GROUP:
                groups.append([])
            groups[-1].append(kernel)
    if len(groups) > 1:
        groups[0] += groups.pop(1)
    return groups


def _none(length: int) -> NDArray[np.int64]:
    return np.full(length, -1, np.int64)


def _span(base: NDArray[np.int64], out: int, step_out: int, inn: int, step_in: int) -> slice:
    """Return the bounds of what the loops reach."""
    reach = (out - 1) * step_out + (inn - 1) * step_in
    return slice(int(base.min()), int(base.max()) + reach + 1)
