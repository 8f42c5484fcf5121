"""Gates beside the golden core, on DRAM of their own."""

import numpy as np
import pytest

from ginseng.bench.cosim import GatesCore, core_model
from ginseng.bench.tokens import Range, TokenStream
from ginseng.golden.dram import Dram
from ginseng.golden.plain import PlainPort
from ginseng.golden.vta import Core as GoldenCore
from ginseng.isa.config import BusConfig, CoreConfig, Memory
from ginseng.isa.insn import INSN_BYTES, AluOp, Opcode, Queue, instruction_set

WINDOW = 1 << 20
#: Accumulators that random programs use.
ACCUMULATORS = 64


class Pair:
    """The golden core and the gates, side by side; programs follow each other without reset."""

    def __init__(self, model, config, *, timing=None):
        self.config = config
        self.drams = Dram(0, WINDOW), Dram(0, WINDOW)
        bus = BusConfig()
        golden, gates = (PlainPort(dram, config, bus) for dram in self.drams)
        self.golden = GoldenCore(config, golden, strict_finish=True)
        self.gates = GatesCore(model, config, bus, gates, timing=timing)
        self.golden.reset()
        self.gates.reset()

    def run(self, program):
        """Run ``program`` on both; return whether DRAM is the same after, and both counted so."""
        for dram in self.drams:
            dram.bytes[:] = 0
            dram.bytes[: len(program.image)] = program.image
        for core in (self.golden, self.gates):
            core.start(program.insn_addr // INSN_BYTES, program.insn_count)
            core.run()
        mine, theirs = self.gates.counters, self.golden.counters
        return np.array_equal(self.drams[0].bytes, self.drams[1].bytes) and (
            (mine.gemm_uops, mine.alu_uops, mine.insns)
            == (theirs.gemm_uops, theirs.alu_uops, theirs.insns)
        )

    def accumulators_agree(self):
        """Whether both hold the same in the accumulators; it shifts those of the gates away."""
        wanted = self.golden.pads.acc[:ACCUMULATORS].copy()
        agree = np.array_equal(self.accumulators(), wanted)
        # What a later program leaves unwritten must still be the same.
        self.golden.pads.acc[:ACCUMULATORS] >>= 31
        return agree

    def accumulators(self):
        """Return the first accumulators of the gates, which a program of their own stores."""
        words, at = dump(self.config)
        dram = self.drams[1]
        dram.bytes[:] = 0
        dram.bytes[: len(words)] = words
        self.gates.start(at // INSN_BYTES, (len(words) - at) // INSN_BYTES)
        self.gates.run()
        lanes = self.config.batch * self.config.block
        size = ACCUMULATORS * lanes
        planes = [dram.bytes[(n + 1) * 4096 : (n + 1) * 4096 + size] for n in range(4)]
        raw = np.stack(planes, -1).reshape(-1).view("<i4")
        return raw.reshape(ACCUMULATORS, self.config.batch, self.config.block)


def dump(config):
    """Return a DRAM image that stores every byte of the first accumulators, and its program."""
    isa, stream = instruction_set(config), TokenStream(config)
    held = Range(Memory.ACC, 0, ACCUMULATORS)
    stream.add(
        Queue.COMPUTE,
        Opcode.LOAD,
        reads=[Range(None, 0, 4)],
        writes=[Range(Memory.UOP, 0, 1)],
        memory=Memory.UOP,
        y_size=1,
        x_size=1,
        x_stride=1,
    )
    for plane in range(4):
        out = (plane + 1) * 4096
        size = ACCUMULATORS * config.element_bytes(Memory.OUT)
        stream.add(
            Queue.STORE,
            Opcode.STORE,
            reads=[held],
            writes=[Range(None, out, out + size)],
            memory=Memory.OUT,
            dram_base=out // config.element_bytes(Memory.OUT),
            y_size=1,
            x_size=ACCUMULATORS,
            x_stride=ACCUMULATORS,
        )
        stream.add(
            Queue.COMPUTE,
            Opcode.ALU,
            reads=[held],
            writes=[held],
            uop_end=1,
            iter_out=1,
            iter_in=ACCUMULATORS,
            dst_factor_in=1,
            src_factor_in=1,
            alu_op=AluOp.SHR,
            use_imm=1,
            imm=8,
        )
    words = stream.finish()
    image = np.zeros(5 * 4096 + len(words), np.uint8)
    image[:4] = list(isa.uop.pack(dst=0, src=0, wgt=0))
    image[5 * 4096 :] = list(words)
    return image, 5 * 4096


@pytest.fixture(scope="session")
def core_gates():
    """The core of a configuration, its products packed or not, Verilated once in this process."""
    models = {}

    def model(config, packed=False):
        key = config, packed
        if key not in models:
            models[key] = core_model(config, BusConfig(), packed=packed)
        return models[key]

    yield model
    for built in models.values():
        built.close()


@pytest.fixture
def pair(core_gates):
    def make(config=None, *, packed=False, **how):
        config = config or CoreConfig()
        return Pair(core_gates(config, packed), config, **how)

    return make
