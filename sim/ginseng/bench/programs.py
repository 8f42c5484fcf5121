"""Random legal VTA programs with their DRAM image (VTA specification §11)."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ginseng.bench.tokens import Range, TokenStream
from ginseng.isa.config import CoreConfig, Memory
from ginseng.isa.insn import INSN_BYTES, UOP_BYTES, AluOp, Opcode, Queue, instruction_set

__all__ = ["Program", "random_program"]

#: Elements of each scratchpad that a program uses; all of them are loaded first.
_WINDOW: Final = 64
#: Most steps of one GEMM or ALU instruction.
_STEPS: Final = 160
_IMMEDIATES: Final = (-32768, -33, -32, -31, -8, -1, 0, 1, 7, 8, 31, 32, 63, 127, 32767)


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """A program in DRAM.

    Attributes
    ----------
    config : CoreConfig
    image : uint8 array
        DRAM from address 0 on, before the program runs.
    insn_addr, insn_count : int
        Byte address and number of the instructions.

    """

    config: CoreConfig
    image: NDArray[np.uint8]
    insn_addr: int
    insn_count: int


def random_program(config: CoreConfig, seed: int, *, length: int = 24) -> Program:
    """Return a legal program of about ``length`` instructions, tokens and no-ops not counted.

    It loads (with every padding, in two dimensions, overlapping, from results stored earlier),
    multiplies, resets, does every ALU operation on random and extreme numbers at every distance,
    and stores; base registers are 0.

    Parameters
    ----------
    config : CoreConfig
        What the program is for.
    seed : int
        The same seed gives the same program.
    length : int
        Instructions after those that fill the scratchpads.

    """
    return _Generator(config, seed).program(length)


class _Generator:
    """Draws one program."""

    def __init__(self, config: CoreConfig, seed: int) -> None:
        self.config = config
        self.isa = instruction_set(config)
        self.rng = np.random.default_rng(seed)
        self.stream = TokenStream(config)
        self.image = bytearray()
        self.window = {
            m: min(_WINDOW, config.depth(m))
            for m in (Memory.UOP, Memory.WGT, Memory.INP, Memory.ACC)
        }
        #: Byte ranges that stores wrote.
        self.results: list[tuple[int, int]] = []
        #: Where the micro-ops last loaded stand, and their fields, shape (count, 3).
        self.uops: tuple[int, NDArray[np.int64]] = (0, np.zeros((0, 3), np.int64))

    def program(self, length: int) -> Program:
        for memory in (Memory.INP, Memory.WGT, Memory.ACC):
            self._load(memory, 0, self.window[memory])
        actions = (self._load_some, self._gemm, self._alu, self._store, self._idle)
        for choice in self.rng.choice(5, length, p=(0.3, 0.2, 0.25, 0.2, 0.05)):
            actions[choice]()
            if self._chance(0.1):
                self.stream.push(*self.rng.choice(np.array(list(Queue), object), 2))
        self._store()
        words = self.stream.finish()
        insn_addr = self._place(words, INSN_BYTES)
        self.image.extend(bytes(-len(self.image) % 4096))
        image = np.frombuffer(bytes(self.image), np.uint8)
        return Program(self.config, image, insn_addr, len(self.stream))

    def _int(self, low: int, high: int) -> int:
        """Return an integer from ``low`` to ``high``, both included."""
        return int(self.rng.integers(low, high + 1))

    def _chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def _place(self, data: bytes, alignment: int) -> int:
        """Append ``data`` to the image and return its address."""
        gap = self._int(0, 3) * alignment
        self.image.extend(bytes(-len(self.image) % alignment + gap))
        at = len(self.image)
        self.image.extend(data)
        return at

    def _load_some(self) -> None:
        memory = (Memory.INP, Memory.INP, Memory.WGT, Memory.ACC, Memory.ACC_8BIT)[self._int(0, 4)]
        window = self.window[Memory.ACC if memory is Memory.ACC_8BIT else memory]
        begin = self._int(0, window - 1)
        self._load(memory, begin, self._int(begin + 1, window))

    def _split(self, extent: int, least: int) -> tuple[int, int, int]:
        """Return padding, size (at least ``least``) and padding that fill ``extent``."""
        before = self._int(0, min(15, extent - least)) if self._chance(0.4) else 0
        after = self._int(0, min(15, extent - least - before)) if self._chance(0.4) else 0
        return before, extent - before - after, after

    def _load(self, memory: Memory, begin: int, end: int) -> None:
        """Load ``begin`` to ``end - 1``, in rows if their number divides."""
        count = end - begin
        height = int(self.rng.choice([n for n in range(1, count + 1) if count % n == 0]))
        left, x_size, right = self._split(count // height, 1)
        top, y_size, bottom = self._split(height, int(height > 30))
        stride = self._int(0, 2 * x_size) if self._chance(0.5) else x_size
        element = self.config.element_bytes(memory)
        nbytes = ((y_size - 1) * stride + x_size) * element if y_size else 0
        source = self._source(memory, nbytes)
        home = Memory.ACC if memory is Memory.ACC_8BIT else memory
        self.stream.add(
            Queue.LOAD if memory in (Memory.INP, Memory.WGT) else Queue.COMPUTE,
            Opcode.LOAD,
            reads=[Range(None, source, source + nbytes)],
            writes=[Range(home, begin, end)],
            memory=memory,
            sram_base=begin,
            dram_base=source // element,
            y_size=y_size,
            x_size=x_size,
            x_stride=stride,
            y_pad_0=top,
            y_pad_1=bottom,
            x_pad_0=left,
            x_pad_1=right,
        )

    def _source(self, memory: Memory, nbytes: int) -> int:
        """Return where ``nbytes`` of data for ``memory`` stand: a result, or fresh numbers."""
        element = self.config.element_bytes(memory)
        fitting = [begin for begin, end in self.results if end - begin >= nbytes]
        fitting = [begin for begin in fitting if begin % element == 0]
        if fitting and memory is not Memory.ACC and self._chance(0.5):
            return fitting[self._int(0, len(fitting) - 1)]
        data = np.frombuffer(self.rng.bytes(nbytes), np.uint8)
        if self._chance(0.3):
            # Extremes: -128 and 127, or with four bytes the least and greatest int32.
            low, high = (
                (b"\0\0\0\x80", b"\xff\xff\xff\x7f")
                if memory is Memory.ACC
                else (
                    b"\x80",
                    b"\x7f",
                )
            )
            picks = self.rng.integers(0, 2, nbytes // len(low))
            data = np.frombuffer(b"".join(high if pick else low for pick in picks), np.uint8)
        return self._place(data.tobytes(), element)

    def _loops(self) -> tuple[int, bool, int, int]:
        """Draw micro-op count, whether to keep the last ones, and both iteration counts."""
        if self._chance(0.04):
            return 1, False, self._int(0, 1), 0
        count = self._int(1, min(12, self.window[Memory.UOP]))
        keep = self._chance(0.3) and len(self.uops[1]) > 0
        room = _STEPS // (len(self.uops[1]) if keep else count)
        outer = self._int(1, max(1, min(8, room)))
        return count, keep, outer, self._int(1, max(1, room // outer))

    def _factors(self, room: int, outer: int, inner: int) -> tuple[int, int]:
        """Draw the factors of both loops so that they add at most ``room`` in all."""
        if self._chance(0.25):
            return 0, 0
        of_inner = self._int(0, min(3, room // (inner - 1))) if inner > 1 else self._int(0, 3)
        room -= of_inner * (inner - 1)
        of_outer = self._int(0, min(8, room // (outer - 1))) if outer > 1 else self._int(0, 3)
        return of_outer, of_inner

    def _walk(self, memories: tuple[Memory, ...]) -> tuple[dict[str, int], list[Range]]:
        """Load micro-ops or keep the last, draw loops; return fields and each operand's range."""
        count, keep, outer, inner = self._loops()
        tops = [self.window[memory] - 1 for memory in memories]
        if keep:
            begin, uops = self.uops
            keep = all(int(uops[:, i].max()) <= top for i, top in enumerate(tops))
        if not keep:
            uops = np.zeros((count, 3), np.int64)
            near = self._chance(0.5)
            for i, top in enumerate(tops):
                low = self._int(0, top)
                uops[:, i] = self.rng.integers(low, min(top, low + 4 if near else top) + 1, count)
            begin = self._int(0, self.window[Memory.UOP] - count)
            self._load_uops(begin, uops)
        fields = {"uop_begin": begin, "uop_end": begin + len(uops)}
        fields |= {"iter_out": outer, "iter_in": inner}
        ranges = []
        for i, (name, memory) in enumerate(zip(("dst", "src", "wgt"), memories, strict=False)):
            low, high = int(uops[:, i].min()), int(uops[:, i].max())
            out, into = self._factors(tops[i] - high, outer, inner)
            fields |= {f"{name}_factor_out": out, f"{name}_factor_in": into}
            end = high + out * max(0, outer - 1) + into * max(0, inner - 1) + 1
            ranges.append(Range(memory, low, end))
        return fields, ranges

    def _load_uops(self, begin: int, uops: NDArray[np.int64]) -> None:
        words = [self.isa.uop.pack(dst=int(d), src=int(s), wgt=int(w)) for d, s, w in uops.tolist()]
        source = self._place(b"".join(words), UOP_BYTES)
        end = begin + len(uops)
        self.stream.add(
            Queue.COMPUTE,
            Opcode.LOAD,
            reads=[Range(None, source, source + len(uops) * UOP_BYTES)],
            writes=[Range(Memory.UOP, begin, end)],
            memory=Memory.UOP,
            sram_base=begin,
            dram_base=source // UOP_BYTES,
            y_size=1,
            x_size=len(uops),
            x_stride=len(uops),
        )
        self.uops = (begin, uops)

    def _gemm(self) -> None:
        fields, (dst, src, wgt) = self._walk((Memory.ACC, Memory.INP, Memory.WGT))
        self.stream.add(
            Queue.COMPUTE,
            Opcode.GEMM,
            reads=[src, wgt],
            writes=[dst],
            reset=int(self._chance(0.2)),
            **fields,
        )

    def _alu(self) -> None:
        fields, (dst, src) = self._walk((Memory.ACC, Memory.ACC))
        more: dict[str, Any] = {"alu_op": int(self.rng.choice([int(op) for op in AluOp]))}
        if self._chance(0.5):
            imm = _IMMEDIATES[self._int(0, len(_IMMEDIATES) - 1)]
            more |= {"use_imm": 1, "imm": imm if self._chance(0.5) else self._int(-128, 127)}
        self.stream.add(Queue.COMPUTE, Opcode.ALU, reads=[src], writes=[dst], **fields, **more)

    def _store(self) -> None:
        window = self.window[Memory.ACC]
        x_size, y_size = self._int(1, 9), self._int(0 if self._chance(0.1) else 1, 6)
        x_size = min(x_size, window)
        y_size = min(y_size, window // x_size)
        begin = self._int(0, window - x_size * y_size)
        stride = self._int(0, 2 * x_size)
        element = self.config.element_bytes(Memory.OUT)
        nbytes = ((y_size - 1) * stride + x_size) * element if y_size else 0
        if (
            self.results
            and self.results[-1][1] - self.results[-1][0] >= nbytes
            and (self._chance(0.2))
        ):
            target = self.results[-1][0]
        else:
            target = self._place(self.rng.bytes(nbytes), element)
            self.results.append((target, target + nbytes))
        self.stream.add(
            Queue.STORE,
            Opcode.STORE,
            reads=[Range(Memory.ACC, begin, begin + x_size * y_size)],
            writes=[Range(None, target, target + nbytes)],
            memory=Memory.OUT,
            sram_base=begin,
            dram_base=target // element,
            y_size=y_size,
            x_size=x_size,
            x_stride=stride,
        )

    def _idle(self) -> None:
        self.stream.nop(list(Queue)[self._int(0, 2)])
