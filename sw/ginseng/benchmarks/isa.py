"""How fast software handles programs: instructions encoded, decoded and checked per second."""

import time
from collections.abc import Callable

from ginseng.isa.config import CoreConfig, Memory
from ginseng.isa.insn import INSN_BYTES, AluOp, Opcode, instruction_set
from ginseng.isa.legality import check_program

__all__ = ["measure", "tiled_program"]

#: Rows and columns of a tile's inputs, in elements; its weights are one row of as many columns.
_ROWS, _COLUMNS = 14, 14
#: Where tiles lie in DRAM, in bytes: inputs, weights, results. Micro-ops stand at 0.
_INP_AT, _WGT_AT, _OUT_AT = 1 << 20, 2 << 20, 4 << 20
#: Places of each that tiles take turns at.
_PLACES = 64


def tiled_program(config: CoreConfig, tiles: int) -> tuple[bytes, bytes]:
    """Return a legal plain program, and its micro-ops, which DRAM holds from byte 0 on.

    Each tile is loaded, multiplied, requantised and stored while the next is loaded, in halves of
    the scratchpads: 8 instructions a tile, as a compiler emits them for a convolution.

    Parameters
    ----------
    config : CoreConfig
        With at least the default depths.
    tiles : int
        At least 2.

    """
    isa = instruction_set(config)
    words: list[bytes] = []

    def emit(opcode: Opcode, **fields: int) -> None:
        words.append(isa.encode(opcode, **fields))

    elements = _ROWS * _COLUMNS
    micro_ops = b"".join(isa.uop.pack(dst=n, src=n) for n in range(_COLUMNS))
    emit(Opcode.LOAD, memory=Memory.UOP, y_size=1, x_size=_COLUMNS)
    # The second half's micro-ops are the first's, moved up by half of each scratchpad.
    half = {m: config.depth(m) // 2 for m in (Memory.ACC, Memory.INP, Memory.WGT)}
    micro_ops += b"".join(
        isa.uop.pack(dst=half[Memory.ACC] + n, src=half[Memory.INP] + n, wgt=half[Memory.WGT])
        for n in range(_COLUMNS)
    )
    emit(
        Opcode.LOAD,
        memory=Memory.UOP,
        sram_base=_COLUMNS,
        dram_base=_COLUMNS,
        y_size=1,
        x_size=_COLUMNS,
    )
    for tile in range(tiles):
        side, place = tile % 2, tile % _PLACES
        inp = _INP_AT // config.element_bytes(Memory.INP) + place * elements
        wgt = _WGT_AT // config.element_bytes(Memory.WGT) + place
        out = _OUT_AT // config.element_bytes(Memory.OUT) + tile * elements
        loops = {
            "uop_begin": side * _COLUMNS,
            "uop_end": (side + 1) * _COLUMNS,
            "iter_out": 1,
            "iter_in": _ROWS,
            "dst_factor_in": _COLUMNS,
            "src_factor_in": _COLUMNS,
        }
        emit(
            Opcode.LOAD,
            memory=Memory.INP,
            sram_base=side * half[Memory.INP],
            dram_base=inp,
            y_size=_ROWS,
            x_size=_COLUMNS,
            x_stride=_COLUMNS,
            pop_next=int(tile >= 2),
        )
        emit(
            Opcode.LOAD,
            memory=Memory.WGT,
            sram_base=side * half[Memory.WGT],
            dram_base=wgt,
            y_size=1,
            x_size=1,
            push_next=1,
        )
        emit(Opcode.GEMM, **loops, reset=1, pop_next=int(tile >= 2))
        emit(Opcode.GEMM, **loops, pop_prev=1, push_prev=1)
        for op, imm in ((AluOp.SHR, 8), (AluOp.MIN, 127), (AluOp.MAX, -128)):
            emit(
                Opcode.ALU,
                **loops,
                alu_op=op,
                use_imm=1,
                imm=imm,
                push_next=int(op is AluOp.MAX),
            )
        emit(
            Opcode.STORE,
            memory=Memory.OUT,
            sram_base=side * half[Memory.ACC],
            dram_base=out,
            y_size=1,
            x_size=elements,
            x_stride=elements,
            pop_prev=1,
            push_prev=1,
        )
    # What is left: two tokens to the load queue, two from the store queue.
    emit(Opcode.LOAD, memory=Memory.INP, pop_next=1)
    emit(Opcode.LOAD, memory=Memory.INP, pop_next=1, push_next=1)
    emit(Opcode.LOAD, memory=Memory.UOP, pop_next=1)
    emit(Opcode.LOAD, memory=Memory.UOP, pop_prev=1, pop_next=1)
    emit(Opcode.FINISH)
    return b"".join(words), micro_ops


def measure(tiles: int = 5000) -> dict[str, float]:
    """Return instructions per second, by what is done with them, and how many there were.

    Parameters
    ----------
    tiles : int
        Size of the program that is measured.

    """
    config = CoreConfig()
    isa = instruction_set(config)
    code, micro_ops = tiled_program(config, tiles)
    count = len(code) // INSN_BYTES
    decoded = list(isa.decode_stream(code))
    rates = {"instructions": float(count)}

    def timed(name: str, work: Callable[[], object]) -> None:
        begin = time.perf_counter()
        work()
        rates[name] = count / (time.perf_counter() - begin)

    timed("encode", lambda: [isa.encode(insn.opcode, **insn.fields) for insn in decoded])
    timed("decode", lambda: list(isa.decode_stream(code)))
    timed("check", lambda: check_program(code, config, dram=lambda at, n: micro_ops[at : at + n]))
    return rates
