"""Machines around the core, and an interpreter written again from VTA specification §5 to §8."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ginseng.golden.dram import Dram
from ginseng.golden.plain import PlainPort
from ginseng.golden.port import Fatal, Transfer
from ginseng.golden.vta import Core, Scheduler
from ginseng.isa.config import BusConfig, CoreConfig, Memory
from ginseng.isa.insn import AluOp, Opcode, Queue, instruction_set


def wrap32(value: int) -> int:
    """Return ``value`` modulo 2**32 as a signed number."""
    return (value + (1 << 31)) % (1 << 32) - (1 << 31)


def naive_lane(op: AluOp, x: int, y: int) -> int:
    """Return one ALU lane in unbounded integers."""
    if op is AluOp.MIN:
        return x if x < y else y
    if op is AluOp.MAX:
        return x if x > y else y
    if op is AluOp.ADD:
        return wrap32(x + y)
    if op is AluOp.MUL:
        return wrap32(x * y)
    return x >> y % 32 if y >= 0 else wrap32(x << -y % 32)


class Naive:
    """Executes a stream in order, one step and one element at a time.

    Results are NumPy arrays of the wide type int64, wrapped by hand; nothing is shared with the
    model but the decoder.
    """

    def __init__(self, config: CoreConfig, memory: NDArray[np.uint8]) -> None:
        self.config = config
        self.dram = memory.copy()
        self.isa = instruction_set(config)
        self.uop: list[bytes] = [bytes(4)] * config.depth(Memory.UOP)
        self.pads: dict[Memory, NDArray[np.int64]] = {
            m: np.zeros((config.depth(m), *config.element_shape(m)), np.int64)
            for m in (Memory.INP, Memory.WGT, Memory.ACC)
        }

    def run(self, insn_addr: int, count: int) -> NDArray[np.uint8]:
        stream = self.dram[insn_addr : insn_addr + 16 * count].tobytes()
        for insn in self.isa.decode_stream(stream):
            if insn.opcode is Opcode.LOAD and insn["x_size"]:
                self.load(insn)
            elif insn.opcode is Opcode.STORE and insn["x_size"]:
                self.store(insn)
            elif insn.opcode in (Opcode.GEMM, Opcode.ALU):
                self.loop(insn)
            elif insn.opcode is Opcode.FINISH:
                break
        return self.dram

    def element(self, memory: Memory, index: int) -> bytes:
        size = self.config.element_bytes(memory)
        at = index * size % (1 << 32)
        return self.dram[at : at + size].tobytes()

    def load(self, insn: Any) -> None:
        memory = Memory(insn["memory"])
        top, left, rows, columns = (insn[k] for k in ("y_pad_0", "x_pad_0", "y_size", "x_size"))
        to = insn["sram_base"]
        for r in range(top + rows + insn["y_pad_1"]):
            for c in range(left + columns + insn["x_pad_1"]):
                inside = top <= r < top + rows and left <= c < left + columns
                raw = bytes(self.config.element_bytes(memory))
                if inside:
                    e = insn["dram_base"] + (r - top) * insn["x_stride"] + c - left
                    raw = self.element(memory, e)
                if memory is Memory.UOP:
                    self.uop[to] = raw
                else:
                    home = Memory.ACC if memory is Memory.ACC_8BIT else memory
                    kind = "<i4" if memory is Memory.ACC else "i1"
                    self.pads[home][to] = np.frombuffer(raw, kind).reshape(
                        self.config.element_shape(memory)
                    )
                to += 1

    def store(self, insn: Any) -> None:
        size = self.config.element_bytes(Memory.OUT)
        for y in range(insn["y_size"]):
            for x in range(insn["x_size"]):
                lanes = self.pads[Memory.ACC][insn["sram_base"] + y * insn["x_size"] + x]
                at = (insn["dram_base"] + y * insn["x_stride"] + x) * size % (1 << 32)
                self.dram[at : at + size] = [int(lane) % 256 for lane in lanes.flat]

    def loop(self, insn: Any) -> None:
        for o in range(insn["iter_out"]):
            for n in range(insn["iter_in"]):
                for u in range(insn["uop_begin"], insn["uop_end"]):
                    uop = self.isa.uop.unpack(self.uop[u])
                    index = [
                        uop[k]
                        + o * insn.fields.get(f"{k}_factor_out", 0)
                        + n * insn.fields.get(f"{k}_factor_in", 0)
                        for k in ("dst", "src", "wgt")
                    ]
                    self.step(insn, *index)

    def step(self, insn: Any, d: int, s: int, w: int) -> None:
        acc = self.pads[Memory.ACC]
        if insn.opcode is Opcode.GEMM:
            if insn["reset"]:
                acc[d] = 0
                return
            for b in range(self.config.batch):
                for j in range(self.config.block):
                    dot = int((self.pads[Memory.INP][s][b] * self.pads[Memory.WGT][w][j]).sum())
                    acc[d][b][j] = wrap32(int(acc[d][b][j]) + dot)
            return
        second = np.full_like(acc[d], insn["imm"]) if insn["use_imm"] else acc[s]
        op = AluOp(insn["alu_op"])
        lanes = [
            naive_lane(op, x, y)
            for x, y in zip(acc[d].ravel().tolist(), second.ravel().tolist(), strict=True)
        ]
        acc[d] = np.array(lanes, np.int64).reshape(acc[d].shape)


class SlowPort(PlainPort):
    """A plain port whose reads are verified only when they are settled, as a TEC's may be."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.settled = 0
        #: Reads (by number, from 1) that turn out to be forged when they are settled.
        self.forged: set[int] = set()
        #: What was verified at each write, and the sample it came with.
        self.writes: list[tuple[int, int]] = []

    @property
    def verified(self) -> int:
        return self.settled

    def settle(self) -> bool:
        if self.settled == self.issued:
            return False
        self.settled += 1
        if self.settled in self.forged:
            raise Fatal("tag mismatch")
        return True

    def write(self, transfer: Transfer, data: NDArray[np.uint8], sample: int) -> None:
        self.writes.append((self.verified, sample))
        super().write(transfer, data, sample)


@dataclass
class Machine:
    """A core on a small DRAM, with an assembler's conveniences."""

    config: CoreConfig = field(default_factory=CoreConfig)
    strict_finish: bool = False
    slow: bool = False
    nbytes: int = 1 << 20

    def __post_init__(self) -> None:
        self.dram = Dram(0, self.nbytes)
        kind = SlowPort if self.slow else PlainPort
        self.port: Any = kind(self.dram, self.config, BusConfig())
        self.core = Core(self.config, self.port, strict_finish=self.strict_finish)
        self.isa = instruction_set(self.config)
        self._free = 0

    def insn(self, opcode: Opcode, **fields: int) -> bytes:
        return self.isa.encode(opcode, **fields)

    def load(self, memory: Memory, sram_base: int, at: int, x_size: int = 1, **more: int) -> bytes:
        """LOAD of one row from byte address ``at``."""
        unit = self.config.element_bytes(memory)
        fields = {"y_size": 1, "x_size": x_size, "x_stride": x_size} | more
        return self.insn(
            Opcode.LOAD, memory=memory, sram_base=sram_base, dram_base=at // unit, **fields
        )

    def store(self, sram_base: int, at: int, x_size: int = 1, **more: int) -> bytes:
        """STORE of one row to byte address ``at``."""
        unit = self.config.element_bytes(Memory.OUT)
        fields = {"memory": Memory.OUT, "y_size": 1, "x_size": x_size, "x_stride": x_size} | more
        return self.insn(Opcode.STORE, sram_base=sram_base, dram_base=at // unit, **fields)

    def nop(self, queue: Queue, **bits: int) -> bytes:
        opcode = Opcode.STORE if queue is Queue.STORE else Opcode.LOAD
        memory = Memory.INP if queue is Queue.LOAD else Memory.UOP
        return self.insn(opcode, memory=memory, **bits)

    def finish(self, **bits: int) -> bytes:
        return self.insn(Opcode.FINISH, **bits)

    def once(self, opcode: Opcode, **fields: int) -> bytes:
        """GEMM or ALU over one micro-op, the first."""
        return self.insn(opcode, **({"uop_end": 1, "iter_out": 1, "iter_in": 1} | fields))

    def uops(self, *uops: Sequence[int]) -> None:
        """Put micro-ops into UOP, from 0 on."""
        words = (
            self.isa.uop.pack(**dict(zip(("dst", "src", "wgt"), u, strict=False))) for u in uops
        )
        self.core.pads.uop[: len(uops)] = [int.from_bytes(word, "little") for word in words]

    def place(self, data: bytes) -> int:
        """Put ``data`` into DRAM at a multiple of 256 and return its address."""
        at = self._free
        self._free += -(-len(data) // 256) * 256
        self.dram.bytes[at : at + len(data)] = np.frombuffer(data, np.uint8)
        return at

    def start(self, *words: bytes) -> None:
        self.core.start(self.place(b"".join(words)) // 16, len(words))

    def run(self, *words: bytes, scheduler: Scheduler | None = None) -> None:
        """Run a program of ``words`` from a place of its own."""
        self.start(*words)
        self.core.run(scheduler)


@pytest.fixture(scope="session")
def machine() -> Callable[..., Machine]:
    """Make a machine."""
    return Machine


@pytest.fixture(scope="session")
def naive() -> type[Naive]:
    """The interpreter to hold the model against."""
    return Naive


@pytest.fixture(scope="session")
def lane() -> Callable[[AluOp, int, int], int]:
    """One ALU lane to hold the model against."""
    return naive_lane
