"""LOAD and STORE: their checks, padding, and the element formats (VTA specification §5, §8)."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ginseng.golden.port import Fatal, MemoryPort, Transfer
from ginseng.golden.vta.scratchpad import Scratchpads
from ginseng.isa.config import Memory
from ginseng.isa.insn import Instruction
from ginseng.isa.transfer import Client

__all__ = ["Span", "load_span", "run_load", "run_store", "store_span"]

_CLIENTS: Final = {
    Memory.UOP: Client.COMPUTE,
    Memory.WGT: Client.WGT,
    Memory.INP: Client.INP,
    Memory.ACC: Client.COMPUTE,
    Memory.ACC_8BIT: Client.COMPUTE,
}


@dataclass(frozen=True, slots=True)
class Span:
    """The scratchpad elements ``begin`` to ``end - 1`` that a LOAD or STORE covers."""

    memory: Memory
    begin: int
    end: int

    def overlaps(self, begin: int, end: int) -> bool:
        """Whether one of the elements ``begin`` to ``end - 1`` is among them."""
        return self.begin < end and begin < self.end


def load_span(pads: Scratchpads, insn: Instruction) -> Span:
    """Return where a LOAD with ``x_size > 0`` writes, padding included.

    Raises
    ------
    Fatal
        If the memory id cannot be loaded or the range leaves the scratchpad.

    """
    try:
        memory = Memory(insn["memory"])
        _CLIENTS[memory]
    except (ValueError, KeyError):
        raise Fatal("illegal memory id in LOAD") from None
    width = insn["x_pad_0"] + insn["x_size"] + insn["x_pad_1"]
    height = insn["y_pad_0"] + insn["y_size"] + insn["y_pad_1"]
    end = insn["sram_base"] + width * height
    pads.check(memory, end)
    return Span(memory, insn["sram_base"], end)


def run_load(pads: Scratchpads, port: MemoryPort, insn: Instruction, span: Span) -> None:
    """Read what a LOAD names and put it, padded with zeros, at ``span``.

    The bytes are in the scratchpad on return; the port says later that they are verified. A LOAD
    without rows is padding only and asks the port for nothing.

    Raises
    ------
    Fatal
        If the port refuses.

    """
    memory, rows, row_elements = span.memory, insn["y_size"], insn["x_size"]
    pad = pads.of(memory)
    height = insn["y_pad_0"] + rows + insn["y_pad_1"]
    width = insn["x_pad_0"] + row_elements + insn["x_pad_1"]
    block = np.zeros((height, width, *pad.shape[1:]), pad.dtype)
    if rows:
        transfer = Transfer(memory, insn["dram_base"], rows, row_elements, insn["x_stride"])
        raw = np.ascontiguousarray(port.read(_CLIENTS[memory], transfer))
        source = np.int8 if memory is Memory.ACC_8BIT else pad.dtype.newbyteorder("<")
        top, left = insn["y_pad_0"], insn["x_pad_0"]
        block[top : top + rows, left : left + row_elements] = raw.view(source).reshape(
            rows, row_elements, *pad.shape[1:]
        )
    pad[span.begin : span.end] = block.reshape(-1, *pad.shape[1:])


def store_span(pads: Scratchpads, insn: Instruction) -> Span:
    """Return what a STORE with ``x_size > 0`` reads.

    Raises
    ------
    Fatal
        If it is not a store of OUT, has padding, or leaves the scratchpad.

    """
    if insn["memory"] != Memory.OUT:
        raise Fatal("illegal memory id in STORE")
    if insn["x_pad_0"] or insn["x_pad_1"] or insn["y_pad_0"] or insn["y_pad_1"]:
        raise Fatal("padding in STORE")
    end = insn["sram_base"] + insn["x_size"] * insn["y_size"]
    pads.check(Memory.ACC, end)
    return Span(Memory.ACC, insn["sram_base"], end)


def run_store(
    pads: Scratchpads, port: MemoryPort, insn: Instruction, span: Span, sample: int
) -> None:
    """Write the low 8 bits of the accumulators of ``span``; ``sample`` is the barrier's.

    Raises
    ------
    Fatal
        If the port refuses.

    """
    if not insn["y_size"]:
        return
    transfer = Transfer(
        Memory.OUT, insn["dram_base"], insn["y_size"], insn["x_size"], insn["x_stride"]
    )
    low: NDArray[np.uint8] = pads.acc[span.begin : span.end].astype(np.uint8)
    port.write(transfer, low.reshape(-1), sample)
