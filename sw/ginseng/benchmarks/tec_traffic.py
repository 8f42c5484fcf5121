"""What a protected program has to move: bytes that it names, whole chunks of them, and tags."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from ginseng.isa.config import Memory
from ginseng.isa.insn import INSN_BYTES, Instruction, Opcode, instruction_set
from ginseng.isa.transfer import Client
from ginseng.program import Program, TensorSpec

__all__ = ["Moved", "moved"]

_CLIENTS: Final = {Memory.INP: Client.INP, Memory.WGT: Client.WGT}


@dataclass(kw_only=True)
class Moved:
    """What one client moves in a run, in bytes.

    Attributes
    ----------
    named : int
        What instructions name, or are.
    chunks : int
        With the rest of every chunk that is named in part.

    """

    named: int = 0
    chunks: int = 0


def moved(program: Program) -> dict[Client, Moved]:
    """Return what each client has to move (TEC specification §5, §6); tags are not among it."""
    core, tec = program.config.core, program.config.tec
    assert tec is not None  # every program is of a build with a TEC
    found = {client: Moved() for client in Client}
    specs = {spec.handle: spec for spec in program.tensors}
    words = program.contents[program.entry]
    assert isinstance(words, bytes)  # as the compiler wrote it
    found[Client.FETCH] = Moved(named=len(words), chunks=len(words))
    decode = instruction_set(core).decode
    for at in range(0, len(words), INSN_BYTES):
        insn = decode(words[at : at + INSN_BYTES])
        if insn.opcode not in (Opcode.LOAD, Opcode.STORE) or insn.is_nop:
            continue
        memory = Memory(insn["memory"])
        client = _CLIENTS.get(memory, Client.COMPUTE)
        if insn.opcode is Opcode.STORE:
            client = Client.STORE
        size = core.element_bytes(memory)
        spec = specs[insn["dram_base"] >> tec.offset_bits]
        first = (insn["dram_base"] & ((1 << tec.offset_bits) - 1)) * size
        found[client].named += insn["x_size"] * insn["y_size"] * size
        found[client].chunks += sum(_chunks(insn, spec, first, size))
    return found


def _chunks(insn: Instruction, spec: TensorSpec, first: int, size: int) -> Iterator[int]:
    """Yield the bytes of every chunk that a transfer fetches or continues."""
    stride, row = insn["x_stride"] * size, insn["x_size"] * size
    if insn.opcode is Opcode.STORE:
        # Its bytes are whole chunks together with those of its neighbours.
        yield row * insn["y_size"]
        return
    last = -1
    for begin in (first + n * stride for n in range(insn["y_size"])):
        low, high = begin // spec.chunk, (begin + row - 1) // spec.chunk
        # Rows in one chunk fetch it once, as long as they ascend.
        if stride >= row and low == last:
            low += 1
        for chunk in range(low, high + 1):
            yield min(spec.chunk, spec.length - chunk * spec.chunk)
        last = high
