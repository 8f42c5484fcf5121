"""Programs that keep one unit of the core busy, and what each would take at full rate.

The six of the reference's ``test_benchmark_gemm``: loads of inputs, loads of weights, stores, GEMM,
ALU, and all of them together.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ginseng.bench.programs import Program
from ginseng.bench.tokens import Range, TokenStream
from ginseng.benchmarks.vta_layers import ConvLayer
from ginseng.golden.dram import Dram
from ginseng.golden.plain import PlainPort
from ginseng.golden.vta import Core
from ginseng.isa.config import BusConfig, CoreConfig, Memory, SystemConfig
from ginseng.isa.insn import INSN_BYTES, AluOp, Opcode, Queue, instruction_set

__all__ = ["Unit", "UnitProgram", "conv_unit", "units"]

_CORE: Final = CoreConfig()
_BEAT: Final = BusConfig().beat_bytes
#: Instructions that are measured in a row.
_REPEATS: Final = 8
#: Steps of one GEMM or ALU instruction.
_STEPS: Final = 8192
_UOPS: Final = 8
_PAGE: Final = 4096


class UnitProgram(Program):
    """A program whose results the golden core knows."""

    def golden(self) -> NDArray[np.uint8]:
        """Return the image as the golden core leaves it."""
        dram = Dram(0, len(self.image))
        dram.bytes[:] = self.image
        core = Core(self.config, PlainPort(dram, self.config, BusConfig()))
        core.start(self.insn_addr // INSN_BYTES, self.insn_count)
        core.run()
        return dram.bytes


@dataclass(frozen=True, kw_only=True)
class Unit:
    """What is measured: the cycles of ``whole`` less those of ``frame``.

    Attributes
    ----------
    name : str
    whole, frame : UnitProgram
        With and without the instructions under test; both load what these need, and store some of
        what they leave, so that it can be checked.
    ideal : int
        Cycles of the instructions under test at one beat or one micro-op in a cycle.

    """

    name: str
    whole: UnitProgram
    frame: UnitProgram
    ideal: int


class _Builder:
    """Collects instructions and their data."""

    def __init__(self) -> None:
        self.stream: Final = TokenStream(_CORE)
        self._rng: Final = np.random.default_rng(11)
        self._image: Final = bytearray(_PAGE)

    def load(self, memory: Memory, data: bytes | None = None) -> None:
        """Fill a scratchpad, with seeded bytes by default; loads of compute wait for nothing."""
        size = _CORE.element_bytes(memory)
        count = len(data) // size if data else _CORE.depth(memory)
        at = self._place(data or self._rng.bytes(count * size))
        self.stream.add(
            Queue.LOAD if memory in (Memory.INP, Memory.WGT) else Queue.COMPUTE,
            Opcode.LOAD,
            reads=[Range(None, at, at + count * size)],
            writes=[Range(memory, 0, count)],
            **_row(memory, at, count),
        )

    def store(self, count: int) -> None:
        """Store the first ``count`` accumulators to a place of their own."""
        size = count * _CORE.element_bytes(Memory.OUT)
        at = self._place(bytes(size))
        self.stream.add(
            Queue.STORE,
            Opcode.STORE,
            reads=[Range(Memory.ACC, 0, count)],
            writes=[Range(None, at, at + size)],
            **_row(Memory.OUT, at, count),
        )

    def uops(self) -> None:
        """Load micro-ops whose destinations differ."""
        pack = instruction_set(_CORE).uop.pack
        words = b"".join(pack(dst=n, src=n, wgt=n) for n in range(_UOPS))
        self.load(Memory.UOP, words)

    def steps(self, opcode: Opcode, **fields: int) -> None:
        """Do `_STEPS` steps, over all accumulators in turn."""
        depth = _CORE.depth(Memory.ACC)
        inner = depth // _UOPS
        self.stream.add(
            Queue.COMPUTE,
            opcode,
            reads=[Range(Memory.INP, 0, depth), Range(Memory.WGT, 0, _UOPS)],
            writes=[Range(Memory.ACC, 0, depth)],
            uop_end=_UOPS,
            iter_out=_STEPS // depth,
            iter_in=inner,
            dst_factor_in=_UOPS,
            src_factor_in=_UOPS,
            **fields,
        )

    def finish(self) -> UnitProgram:
        at = self._place(self.stream.finish())
        self._image.extend(bytes(-len(self._image) % _PAGE))
        image = np.frombuffer(bytes(self._image), np.uint8)
        return UnitProgram(_CORE, image, at, len(self.stream))

    def _place(self, data: bytes) -> int:
        self._image.extend(bytes(-len(self._image) % _PAGE))
        at = len(self._image)
        self._image.extend(data)
        return at


def _row(memory: Memory, address: int, count: int) -> dict[str, int]:
    """Return the fields of a transfer of one row."""
    return {
        "memory": memory,
        "dram_base": address // _CORE.element_bytes(memory),
        "y_size": 1,
        "x_size": count,
        "x_stride": count,
    }


def _unit(
    name: str,
    ideal: int,
    under_test: Callable[[_Builder], None],
    before: Callable[[_Builder], None] = lambda _: None,
    after: Callable[[_Builder], None] = lambda _: None,
) -> Unit:
    programs = []
    for measured in (True, False):
        build = _Builder()
        before(build)
        if measured:
            for _ in range(_REPEATS):
                under_test(build)
        after(build)
        programs.append(build.finish())
    return Unit(name=name, whole=programs[0], frame=programs[1], ideal=_REPEATS * ideal)


def _operands(build: _Builder) -> None:
    build.uops()
    for memory in (Memory.ACC, Memory.INP, Memory.WGT):
        build.load(memory)


def _check(build: _Builder) -> None:
    build.store(_CORE.depth(Memory.ACC))


def _beats(memory: Memory, count: int) -> int:
    return count * _CORE.element_bytes(memory) // _BEAT


def _immediate(build: _Builder) -> None:
    build.steps(Opcode.ALU, alu_op=AluOp.ADD, use_imm=1, imm=3)


def _tensor(build: _Builder) -> None:
    build.steps(Opcode.ALU, alu_op=AluOp.MAX)


def units() -> tuple[Unit, ...]:
    """Return the benchmarks of single units.

    ALU instructions that the core fuses take less than the ideal, which counts them one by one.
    """
    inputs = _beats(Memory.INP, _CORE.depth(Memory.INP))
    weights = _beats(Memory.WGT, _CORE.depth(Memory.WGT))
    results = _beats(Memory.OUT, _CORE.depth(Memory.ACC))
    return (
        _unit("load inp", inputs, lambda build: build.load(Memory.INP)),
        _unit("load wgt", weights, lambda build: build.load(Memory.WGT)),
        _unit("store", results, _check, before=lambda build: build.load(Memory.ACC)),
        _unit("GEMM only", _STEPS, lambda build: build.steps(Opcode.GEMM), _operands, _check),
        _unit("ALU only", _STEPS, _immediate, _operands, _check),
        _unit("ALU only, tensor", _STEPS, _tensor, _operands, _check),
    )


def conv_unit(config: SystemConfig) -> tuple[ConvLayer, int]:
    """Return a matrix product of 256 by 256 by 256 as a convolution, and its ideal cycles."""
    layer = ConvLayer(name="GEMM", pixels=16, channels_in=256, channels_out=256, kernel=1)
    elements = layer.pixels**2 * (layer.channels_in + layer.channels_out)
    beats = (elements + layer.channels_in * layer.channels_out) // config.bus.beat_bytes
    return layer, max(layer.macs // config.core.macs, beats)
