"""Programs to check: the vectors, and small ones written as text."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ginseng.isa.assembly import assemble
from ginseng.isa.config import NAMED_CORES, CoreConfig, SystemConfig
from ginseng.isa.insn import INSN_BYTES, Opcode, instruction_set
from ginseng.isa.legality import Finding, Rule, TensorRule, check_program
from ginseng.isa.table import Domain, Permission

VECTORS = Path(__file__).parents[2] / "vectors" / "vta"

#: A core small enough that every case of it can be listed; its buffers differ from the default's
#: in every depth, so that the straddle rule places fields elsewhere.
TINY = CoreConfig(
    log_block=1,
    log_uop_buff_size=5,
    log_inp_buff_size=4,
    log_wgt_buff_size=4,
    log_acc_buff_size=6,
)


@dataclass(frozen=True)
class Code:
    """A program and what the checker needs to know beside it."""

    config: CoreConfig | SystemConfig
    instructions: bytes
    given: dict[str, Any]

    @property
    def core(self) -> CoreConfig:
        return self.config.core if isinstance(self.config, SystemConfig) else self.config

    def edit(self, index: int, **fields: int) -> "Code":
        """Return the program with fields of one instruction changed."""
        isa = instruction_set(self.core)
        insn = isa.decode(self.word(index))
        return self.put(index, isa.encode(insn.opcode, **(insn.fields | fields)))

    def word(self, index: int) -> bytes:
        return self.instructions[index * INSN_BYTES : (index + 1) * INSN_BYTES]

    def put(self, index: int, *words: bytes) -> "Code":
        """Return the program with one instruction replaced by others."""
        at = index * INSN_BYTES
        code = self.instructions[:at] + b"".join(words) + self.instructions[at + INSN_BYTES :]
        return replace(self, instructions=code)

    def flip(self, index: int, bit: int) -> "Code":
        """Return the program with one bit of one instruction flipped."""
        word = int.from_bytes(self.word(index), "little") ^ 1 << bit
        return self.put(index, word.to_bytes(INSN_BYTES, "little"))

    def insert(self, index: int, opcode: Opcode, **fields: int) -> "Code":
        word = instruction_set(self.core).encode(opcode, **fields)
        return self.put(index, word, self.word(index))

    def having(self, **given: Any) -> "Code":
        return replace(self, given=self.given | given)

    def check(self, **options: Any) -> list[Finding]:
        return check_program(self.instructions, self.config, **(self.given | options))

    def broken(self, **options: Any) -> set[tuple[int, Rule]]:
        """Return which rules are broken where."""
        return {(finding.index, finding.rule) for finding in self.check(**options)}


@dataclass(frozen=True)
class Vector(Code):
    """A vector."""

    name: str
    category: str
    dram: bytes


def _vectors() -> Iterator[Vector]:
    for case in json.loads((VECTORS / "index.json").read_text())["cases"]:
        with np.load(VECTORS / case["name"]) as stored:
            dram = stored["dram_before"].tobytes()
        at = case["insn_addr"]
        code = dram[at : at + case["insn_count"] * INSN_BYTES]
        given = {"dram": dram, "instructions_at": at}
        core = NAMED_CORES[case["config"]]
        yield Vector(core, code, given, case["name"], case["category"], dram)


@pytest.fixture(scope="session")
def vectors() -> list[Vector]:
    return list(_vectors())


@pytest.fixture(scope="session")
def tiny() -> CoreConfig:
    return TINY


@pytest.fixture(scope="session")
def configs() -> dict[str, CoreConfig]:
    return {**NAMED_CORES, "tiny": TINY, "short uops": CoreConfig(log_uop_buff_size=13)}


@pytest.fixture(scope="session")
def write() -> Callable[..., Code]:
    """Assemble text for a plain build; its micro-ops stand in DRAM from byte 0 on."""

    def make(text: str, config: CoreConfig | None = None, nbytes: int = 1 << 16) -> Code:
        assembly = assemble(text, config)
        dram = assembly.micro_ops.ljust(nbytes, b"\0")
        return Code(assembly.config, assembly.instructions, {"dram": dram})

    return make


PLAIN = """
.uops
  uop
  uop dst=1 src=1
  uop dst=2 src=2
  uop dst=3 src=3
.insns
  load uop y_size=1 x_size=4                                                   ; 0
  load inp dram_base=0x40 y_size=2 x_size=3 x_stride=8 x_pad_1=1               ; 1
  load wgt dram_base=0x20 y_size=1 x_size=1 push_next                          ; 2
  load acc dram_base=0x100 y_size=1 x_size=8                                   ; 3
  gemm uop_end=4 iter_out=1 iter_in=2 dst_factor_in=4 src_factor_in=4 pop_prev push_prev ; 4
  alu shr uop_end=4 iter_out=2 iter_in=1 dst_factor_out=4 src_factor_out=4 imm=3 use_imm push_next
  store out dram_base=0x800 y_size=1 x_size=8 pop_prev push_prev               ; 6
  load inp pop_next                                                            ; 7
  load inp push_next                                                           ; 8
  load uop pop_prev pop_next                                                   ; 9
  finish                                                                       ; 10
"""


@pytest.fixture
def plain(write: Callable[..., Code]) -> Code:
    """A small legal program of a build without TEC, which is portable too."""
    return write(PLAIN)


ENTRY, UOPS, INPUT, WEIGHTS, SCRATCH, RESULT = range(6)

_R, _W, _X = Permission.R, Permission.W, Permission.X
_TABLE = (
    TensorRule(ENTRY, Domain.PROGRAM, _R | _X, 512, 256),
    TensorRule(UOPS, Domain.PROGRAM, _R, 512, 32),
    TensorRule(INPUT, Domain.IMPORT, _R, 64, 256),
    TensorRule(WEIGHTS, Domain.WEIGHTS, _R, 256, 256),
    TensorRule(SCRATCH, Domain.SCRATCH, _R | _W, 128, 256),
    TensorRule(RESULT, Domain.EXPORT, _W, 96, 256),
)

_GEMM = "iter_out=1 iter_in=4 dst_factor_in=4 src_factor_in=4"


@pytest.fixture
def place() -> Callable[[int, int], int]:
    """Return the ``dram_base`` of an element of a tensor, in the default build."""
    tec = SystemConfig().tec
    assert tec is not None
    bits = tec.offset_bits
    return lambda handle, offset: handle << bits | offset


@pytest.fixture
def protected(place: Callable[[int, int], int]) -> Code:
    """A small legal program of a build with TEC: two layers, with a scratch tensor between."""
    text = f"""
    .uops
      uop
      uop dst=1 src=1
      uop dst=2 src=2
      uop dst=3 src=3
      uop src=16
      uop dst=1 src=17
      uop dst=2 src=18
      uop dst=3 src=19
    .insns
      load uop dram_base={place(UOPS, 0)} y_size=1 x_size=8                               ; 0
      load inp dram_base={place(INPUT, 0)} y_size=4 x_size=4 x_stride=4                    ; 1
      load wgt dram_base={place(WEIGHTS, 0)} y_size=1 x_size=1 push_next                   ; 2
      gemm uop_end=4 {_GEMM} reset                                                         ; 3
      gemm uop_end=4 {_GEMM} pop_prev push_next                                            ; 4
      store out dram_base={place(SCRATCH, 0)} y_size=1 x_size=4 pop_prev                   ; 5
      store out sram_base=4 dram_base={place(SCRATCH, 4)} y_size=3 x_size=4 x_stride=4 push_prev ; 6
      load uop pop_next push_prev                                                          ; 7
      load inp sram_base=16 dram_base={place(SCRATCH, 0)} y_size=1 x_size=16 pop_next push_next ; 8
      gemm uop_begin=4 uop_end=8 {_GEMM} pop_prev push_next                                ; 9
      store out dram_base={place(RESULT, 0)} y_size=1 x_size=16 pop_prev push_prev         ; 10
      load uop pop_next                                                                    ; 11
      finish                                                                               ; 12
    """
    assembly = assemble(text)
    given = {"tensors": _TABLE, "contents": {UOPS: assembly.micro_ops}}
    return Code(SystemConfig(), assembly.instructions, given)


@pytest.fixture
def handles() -> Any:
    """Names of the handles of `protected`."""

    @dataclass(frozen=True)
    class Handles:
        entry: int = ENTRY
        uops: int = UOPS
        input: int = INPUT
        weights: int = WEIGHTS
        scratch: int = SCRATCH
        result: int = RESULT

    return Handles()
