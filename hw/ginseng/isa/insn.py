"""Instruction words and micro-ops (VTA specification §2): the one definition of their fields."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from amaranth import signed
from amaranth.lib import data, enum

from ginseng.isa.codec import Codec, pack_upward
from ginseng.isa.config import CoreConfig, Memory
from ginseng.isa.errors import EncodingError

__all__ = [
    "INSN_BYTES",
    "TOKEN_LIMIT",
    "UOP_BYTES",
    "AluOp",
    "Instruction",
    "InstructionSet",
    "MemInsn",
    "Opcode",
    "Queue",
    "alu_layout",
    "finish_layout",
    "gemm_layout",
    "instruction_set",
    "uop_layout",
]

#: Bytes of an instruction.
INSN_BYTES: Final = 16
#: Most tokens that a counter holds; one more is a fault (TEC specification §7).
TOKEN_LIMIT: Final = (1 << 16) - 1
#: Bytes of a micro-op.
UOP_BYTES: Final = 4


class Opcode(enum.IntEnum, shape=3):
    """What an instruction does; bits 2:0 of every instruction word. 5 to 7 are illegal."""

    LOAD = 0
    STORE = 1
    GEMM = 2
    FINISH = 3
    ALU = 4


class AluOp(enum.IntEnum, shape=3):
    """What an ALU step computes; 5 to 7 are illegal."""

    MIN = 0
    MAX = 1
    ADD = 2
    #: Arithmetic shift right; a negative amount shifts left.
    SHR = 3
    MUL = 4


class Queue(enum.Enum, shape=2):
    """The in-order queues that dispatch fills (specification §4)."""

    LOAD = 0
    COMPUTE = 1
    STORE = 2


class MemInsn(data.Struct):
    """LOAD and STORE: a 2-D strided transfer; 128 bits, the same in every configuration.

    ``dram_base``, ``x_size`` and ``x_stride`` count elements of ``memory``, not bytes.
    """

    opcode: Opcode
    pop_prev: 1
    pop_next: 1
    push_prev: 1
    push_next: 1
    memory: Memory
    sram_base: 16
    dram_base: 32
    _zero: 6
    y_size: 16
    x_size: 16
    x_stride: 16
    y_pad_0: 4
    y_pad_1: 4
    x_pad_0: 4
    x_pad_1: 4


_HEAD: Final[dict[str, Any]] = {
    "opcode": Opcode,
    "pop_prev": 1,
    "pop_next": 1,
    "push_prev": 1,
    "push_next": 1,
}


def _loop(config: CoreConfig) -> dict[str, Any]:
    """Fields that GEMM and ALU share, up to the loop counts."""
    uop = config.log_depth(Memory.UOP)
    return _HEAD | {
        "reset": 1,
        "uop_begin": uop,
        "uop_end": uop + 1,
        "iter_out": 14,
        "iter_in": 14,
    }


def gemm_layout(config: CoreConfig) -> data.Layout:
    """GEMM: two nested loops around a range of micro-ops; 128 bits. ``uop_end`` is exclusive."""
    acc, inp, wgt = (config.log_depth(m) for m in (Memory.ACC, Memory.INP, Memory.WGT))
    return pack_upward(
        _loop(config)
        | {
            "dst_factor_out": acc,
            "dst_factor_in": acc,
            "src_factor_out": inp,
            "src_factor_in": inp,
            "wgt_factor_out": wgt,
            "wgt_factor_in": wgt,
        },
        width=128,
    )


def alu_layout(config: CoreConfig) -> data.Layout:
    """ALU: the loops of GEMM over accumulators only; 128 bits. ``reset`` is ignored."""
    acc = config.log_depth(Memory.ACC)
    return pack_upward(
        _loop(config)
        | {
            "dst_factor_out": acc,
            "dst_factor_in": acc,
            "src_factor_out": acc,
            "src_factor_in": acc,
            "alu_op": AluOp,
            "use_imm": 1,
            "imm": signed(16),
        },
        width=128,
    )


def finish_layout() -> data.Layout:
    """FINISH: opcode and token bits only; 128 bits."""
    return pack_upward(_HEAD, width=128)


def uop_layout(config: CoreConfig) -> data.Layout:
    """Micro-op: scratchpad indices of one step; 32 bits. ALU reads ``src`` as an ACC index."""
    acc, inp, wgt = (config.log_depth(m) for m in (Memory.ACC, Memory.INP, Memory.WGT))
    return pack_upward({"dst": acc, "src": max(acc, inp), "wgt": wgt}, width=32, boundary=32)


@dataclass(frozen=True, slots=True)
class Instruction:
    """One decoded instruction: ``insn["x_size"]`` is a field, ``opcode`` says which fields it has.

    Attributes
    ----------
    opcode : Opcode
    fields : dict
        Every field of the opcode's layout but the opcode, as integers. Not to be changed.

    """

    opcode: Opcode
    fields: dict[str, int]

    def __getitem__(self, field: str) -> int:
        return self.fields[field]

    @property
    def is_nop(self) -> bool:
        """Whether this is a LOAD or STORE that moves nothing (``x_size`` 0)."""
        return self.opcode in (Opcode.LOAD, Opcode.STORE) and self.fields["x_size"] == 0

    @property
    def queue(self) -> Queue:
        """Where dispatch puts it (specification §4)."""
        if self.opcode is Opcode.STORE:
            return Queue.STORE
        if self.opcode is Opcode.LOAD and self.fields["memory"] in (Memory.INP, Memory.WGT):
            return Queue.LOAD
        return Queue.COMPUTE


class InstructionSet:
    """Encoder and decoder of one configuration's instructions and micro-ops.

    Get it from `instruction_set`, which keeps one per configuration.
    """

    def __init__(self, config: CoreConfig) -> None:
        self.config: Final = config
        memory = Codec(MemInsn)
        self.codecs: Final[dict[Opcode, Codec]] = {
            Opcode.LOAD: Codec(MemInsn, "LOAD"),
            Opcode.STORE: Codec(MemInsn, "STORE"),
            Opcode.GEMM: Codec(gemm_layout(config), "GEMM"),
            Opcode.FINISH: Codec(finish_layout(), "FINISH"),
            Opcode.ALU: Codec(alu_layout(config), "ALU"),
        }
        self.uop: Final = Codec(uop_layout(config), "micro-op")
        self._by_value = {int(op): (op, codec) for op, codec in self.codecs.items()}
        assert all(codec.nbytes == INSN_BYTES for codec in (memory, *self.codecs.values()))

    def encode(self, opcode: Opcode, **fields: int) -> bytes:
        """Return the 16 bytes of an instruction; fields left out are zero.

        Raises
        ------
        EncodingError
            If a field does not exist or a value does not fit.

        """
        return self.codecs[opcode].pack(opcode=int(opcode), **fields)

    def decode(self, word: bytes) -> Instruction:
        """Return the instruction that 16 bytes hold. Reserved bits are ignored, as fsim does.

        Raises
        ------
        EncodingError
            If the opcode is illegal or the length is wrong.

        """
        if len(word) != INSN_BYTES:
            raise EncodingError(f"An instruction is {INSN_BYTES} bytes, not {len(word)}")
        entry = self._by_value.get(word[0] & 7)
        if entry is None:
            raise EncodingError(
                f"Opcode {word[0] & 7} is illegal (legal: "
                f"{', '.join(f'{op.name} {int(op)}' for op in self.codecs)})"
            )
        opcode, codec = entry
        fields = codec.unpack(word)
        del fields["opcode"]
        return Instruction(opcode, fields)

    def decode_stream(self, stream: bytes) -> Iterator[Instruction]:
        """Yield the instructions of ``stream`` in order."""
        if len(stream) % INSN_BYTES:
            raise EncodingError(
                f"An instruction stream is a multiple of {INSN_BYTES} bytes, not {len(stream)}"
            )
        for at in range(0, len(stream), INSN_BYTES):
            yield self.decode(stream[at : at + INSN_BYTES])


@lru_cache(maxsize=16)
def instruction_set(config: CoreConfig) -> InstructionSet:
    """Return the encoder and decoder of ``config``."""
    return InstructionSet(config)
