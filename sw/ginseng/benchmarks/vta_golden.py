"""How many multiply-accumulates a second the golden core does on GEMM of real layers."""

import time
from typing import Any, Final

from ginseng.benchmarks.vta_layers import RESNET18, ConvLayer
from ginseng.golden.dram import Dram
from ginseng.golden.plain import PlainPort
from ginseng.golden.vta import Core
from ginseng.isa.config import BusConfig, CoreConfig, Memory
from ginseng.isa.insn import INSN_BYTES, UOP_BYTES, Opcode, instruction_set

__all__ = ["LAYERS", "measure"]

#: GEMM instructions per timed program.
_REPEATS: Final = 16
#: Timed programs per layer, of which the fastest counts.
_RUNS: Final = 3
#: Rows of output pixels that a tile should have before its channels are split instead.
_LEAST_ROWS: Final = 4


#: One layer of each kind: many pixels, many channels, and a stride.
LAYERS: Final = tuple(layer for layer in RESNET18 if layer.name in ("C2", "C5", "C9"))


def measure(config: CoreConfig | None = None) -> dict[str, Any]:
    """Time the GEMM instructions that a compiler would emit for each of `LAYERS`.

    One instruction per tile of output channels and block of rows: micro-ops over the kernel and
    the input channels that fit INP, iterations over the pixels. What is timed is the whole path
    of the core, fetch and decode included, on the noise of power-up.

    Parameters
    ----------
    config : CoreConfig or None
        None is the default configuration.

    Returns
    -------
    dict
        ``{"config": name, "layers": [{"name", "steps", "macs", "macs_per_second"}]}``; steps and
        macs are those of one GEMM instruction.

    """
    config = config or CoreConfig()
    return {"config": config.name, "layers": [_measure(config, layer) for layer in LAYERS]}


def _measure(config: CoreConfig, layer: ConvLayer) -> dict[str, Any]:
    isa = instruction_set(config)
    width = (layer.pixels - 1) * layer.stride + layer.kernel
    tiles, rows = _tile(config, layer, width)
    height = (rows - 1) * layer.stride + layer.kernel
    taps = [(y, x) for y in range(layer.kernel) for x in range(layer.kernel)]
    uops = b"".join(
        isa.uop.pack(dst=0, src=(tile * height + y) * width + x, wgt=tile * len(taps) + k)
        for tile in range(tiles)
        for k, (y, x) in enumerate(taps)
    )
    count = len(uops) // UOP_BYTES
    row = {"y_size": 1, "x_size": count, "x_stride": count}
    gemm = isa.encode(
        Opcode.GEMM,
        uop_end=count,
        iter_out=rows,
        iter_in=layer.pixels,
        dst_factor_out=layer.pixels,
        dst_factor_in=1,
        src_factor_out=width * layer.stride,
        src_factor_in=layer.stride,
    )
    finish = isa.encode(Opcode.FINISH)
    dram = Dram(0, 1 << 16)
    dram.write(0, uops)
    core = Core(config, PlainPort(dram, config, BusConfig()))
    load = isa.encode(Opcode.LOAD, memory=Memory.UOP, **row)
    program = 1 << 15
    dram.write(program, load + finish)
    core.start(program // INSN_BYTES, 2)
    core.run()
    dram.write(program, gemm * _REPEATS + finish)
    seconds = min(_time(core, program // INSN_BYTES, _REPEATS + 1) for _ in range(_RUNS))
    steps = count * rows * layer.pixels
    macs = steps * config.macs
    return {
        "name": layer.name,
        "steps": steps,
        "macs": macs,
        "macs_per_second": macs * _REPEATS / seconds,
    }


def _tile(config: CoreConfig, layer: ConvLayer, width: int) -> tuple[int, int]:
    """Return how many tiles of input channels, and rows of output, one instruction takes."""
    tiles = max(1, layer.channels_in // config.block)
    while True:
        height = config.depth(Memory.INP) // (tiles * width)
        rows = min(
            (height - layer.kernel) // layer.stride + 1,
            config.depth(Memory.ACC) // layer.pixels,
            layer.pixels,
        )
        if rows >= _LEAST_ROWS or tiles == 1:
            return tiles, max(1, rows)
        tiles = max(1, tiles // 2)


def _time(core: Core, insn_base: int, count: int) -> float:
    begin = time.perf_counter()
    core.start(insn_base, count)
    core.run()
    return time.perf_counter() - begin
