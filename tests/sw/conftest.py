"""A program of two dense layers, assembled by hand: the smallest that uses every kind of tensor."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from ginseng.isa.config import BusConfig, Memory, SystemConfig
from ginseng.isa.insn import AluOp, Opcode, instruction_set
from ginseng.isa.table import Domain, Permission, SlotUse, Source
from ginseng.program import PortSpec, Program, SlotSpec, TensorSpec

FEATURES, HIDDEN, CLASSES = 20, 16, 10
SHIFT = 5
BLOCK = 16
R, W, X = Permission.R, Permission.W, Permission.X


@dataclass(frozen=True)
class TinyNetwork:
    """The program and what it computes."""

    program: Program
    weights: tuple[np.ndarray, np.ndarray]
    biases: tuple[np.ndarray, np.ndarray]

    def __call__(self, samples):
        """Return what the device must return for real samples ``(n, FEATURES)``."""
        port_in, port_out = self.program.inputs[0], self.program.outputs[0]
        x = port_in.quantise(samples).astype(np.int64)
        hidden = self._layer(x, 0)
        return port_out.dequantise(self._layer(hidden, 1).astype(np.int8))

    def _layer(self, x, layer):
        return np.clip((x @ self.weights[layer].T + self.biases[layer]) >> SHIFT, -128, 127)


def stream(config):
    """Return the instructions; every tensor is named by its handle in ``dram_base``."""
    encode = instruction_set(config.core).encode
    offset_bits = config.tec.offset_bits

    def load(memory, handle, sram, count, **tokens):
        at = handle << offset_bits
        return encode(
            Opcode.LOAD, memory=int(memory), dram_base=at, sram_base=sram,
            y_size=1, x_size=count, x_stride=count, **tokens,
        )  # fmt: skip

    def store(handle, **tokens):
        return encode(
            Opcode.STORE, memory=int(Memory.OUT), dram_base=handle << offset_bits,
            y_size=1, x_size=1, x_stride=1, **tokens,
        )  # fmt: skip

    def alu(op, imm, **tokens):
        return encode(
            Opcode.ALU, uop_begin=3, uop_end=4, iter_out=1, iter_in=1,
            alu_op=int(op), use_imm=1, imm=imm, **tokens,
        )  # fmt: skip

    def gemm(begin, end, **tokens):
        return encode(
            Opcode.GEMM, uop_begin=begin, uop_end=end, iter_out=1, iter_in=1, **tokens
        )  # fmt: skip

    return b"".join(
        (
            load(Memory.INP, 4, 0, 2),
            load(Memory.WGT, 2, 0, 3, push_next=1),
            load(Memory.UOP, 1, 0, 4),
            load(Memory.ACC, 3, 0, 1),
            gemm(0, 2, pop_prev=1),
            alu(AluOp.SHR, SHIFT),
            alu(AluOp.MIN, 127),
            alu(AluOp.MAX, -128, push_next=1),
            store(5, pop_prev=1, push_prev=1),
            encode(Opcode.LOAD, memory=int(Memory.UOP), pop_next=1, push_prev=1),
            load(Memory.INP, 5, 2, 1, pop_next=1, push_next=1),
            encode(
                Opcode.LOAD, memory=int(Memory.ACC), dram_base=(3 << offset_bits) + 1,
                y_size=1, x_size=1, x_stride=1, pop_prev=1,
            ),
            gemm(2, 3),
            alu(AluOp.SHR, SHIFT),
            alu(AluOp.MIN, 127),
            alu(AluOp.MAX, -128, push_next=1),
            store(6, pop_prev=1, push_prev=1),
            encode(Opcode.LOAD, memory=int(Memory.UOP), pop_next=1),
            encode(Opcode.FINISH),
        )
    )  # fmt: skip


def tiny_network(config, seed=2026):
    rng = np.random.default_rng(seed)
    weights = (
        rng.integers(-20, 20, (HIDDEN, FEATURES)),
        rng.integers(-20, 20, (CLASSES, HIDDEN)),
    )
    biases = (rng.integers(-500, 500, HIDDEN), rng.integers(-500, 500, CLASSES))
    first = np.zeros((BLOCK, 2 * BLOCK), np.int8)
    first[:, :FEATURES] = weights[0]
    second = np.zeros((BLOCK, BLOCK), np.int8)
    second[:CLASSES] = weights[1]
    batch = config.core.batch
    bias = np.zeros((2, batch, BLOCK), "<i4")
    bias[0, :, :HIDDEN], bias[1, :, :CLASSES] = biases
    uop = instruction_set(config.core).uop.pack
    code = stream(config)
    contents = {
        "code": code,
        "uops": uop() + uop(src=1, wgt=1) + uop(src=2, wgt=2) + uop(),
        "weights": first[:, :BLOCK].tobytes() + first[:, BLOCK:].tobytes() + second.tobytes(),
        "bias": bias.tobytes(),
    }

    def tensor(handle, name, domain, permissions, length, chunk, **more):
        return TensorSpec(
            handle=handle, name=name, domain=domain, permissions=permissions,
            length=length, chunk=chunk, **more,
        )  # fmt: skip

    plain = {"measured": True, "source": Source.PLAIN}
    sealed = {"measured": True, "slot": 1}
    program = Program(
        name="tiny",
        config=config,
        tensors=(
            tensor(0, "code", Domain.PROGRAM, R | X, len(code), 128, **plain),
            tensor(1, "uops", Domain.PROGRAM, R, 16, 16, **plain),
            tensor(2, "weights", Domain.WEIGHTS, R, 3 * 256, 256, version=7, **sealed),
            tensor(3, "bias", Domain.WEIGHTS, R, 128 * batch, 64 * batch, **sealed),
            tensor(4, "x", Domain.IMPORT, R, 32 * batch, 16, slot=2),
            tensor(5, "hidden", Domain.SCRATCH, R | W, 16 * batch, 16 * batch),
            tensor(6, "y", Domain.EXPORT, W, 16 * batch, 16 * batch, slot=3),
        ),
        slots=(
            SlotSpec(slot=1, use=SlotUse.STATIC, owner="model"),
            SlotSpec(slot=2, use=SlotUse.SESSION, owner="data"),
            SlotSpec(slot=3, use=SlotUse.SESSION, owner="data"),
        ),
        entry="code",
        inputs=(PortSpec(name="image", tensor="x", shape=(FEATURES,), shift=4, row_elements=1),),
        outputs=(PortSpec(name="scores", tensor="y", shape=(CLASSES,), shift=3, row_elements=1),),
        contents=contents,
        model_sha256="ab" * 32,
    )
    return TinyNetwork(program, weights, biases)


@pytest.fixture(scope="session")
def config():
    """A protected build with a DRAM window that is quick to copy."""
    return SystemConfig(bus=BusConfig(window_base=1 << 20, window_bytes=1 << 19))


@pytest.fixture(scope="session")
def tiny(config):
    return tiny_network(config)


@pytest.fixture(scope="session")
def tiny_for():
    """The tiny network for another configuration."""
    return tiny_network


@pytest.fixture
def samples():
    return np.random.default_rng(7).uniform(-4, 4, (6, FEATURES))


@pytest.fixture
def bare_config(config):
    return replace(config, tec=None)
