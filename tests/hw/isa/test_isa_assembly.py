"""Text to bytes and back."""

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ginseng.isa.assembly import assemble, disassemble
from ginseng.isa.config import NAMED_CORES, CoreConfig
from ginseng.isa.errors import AssemblyError, EncodingError, IsaError
from ginseng.isa.insn import INSN_BYTES, UOP_BYTES, Opcode, instruction_set

CONFIGS = {
    **NAMED_CORES,
    # Shorter micro-op indices: the straddle rule puts other fields before bit 64.
    "short uops": CoreConfig(log_uop_buff_size=10),
    # Depths of one element: fields without bits.
    "flat": CoreConfig(log_uop_buff_size=2, log_inp_buff_size=4, log_acc_buff_size=6),
}


def words(config: CoreConfig) -> st.SearchStrategy[bytes]:
    """Well-formed instructions with every field random."""
    isa = instruction_set(config)

    def of(opcode: Opcode) -> st.SearchStrategy[bytes]:
        codec = isa.codecs[opcode]
        fields: dict[str, st.SearchStrategy[int]] = {}
        for name in codec.fields:
            if name == "opcode":
                continue
            choices = codec.choices(name)
            integers = st.integers(*codec.bounds(name))
            fields[name] = st.sampled_from(sorted(choices.values())) if choices else integers
        return st.fixed_dictionaries(fields).map(lambda values: isa.encode(opcode, **values))

    return st.one_of(*(of(opcode) for opcode in isa.codecs))


def micro_ops(config: CoreConfig) -> st.SearchStrategy[bytes]:
    codec = instruction_set(config).uop
    fields = {name: st.integers(*codec.bounds(name)) for name in codec.fields}
    return st.fixed_dictionaries(fields).map(lambda values: codec.pack(**values))


@pytest.mark.parametrize("name", CONFIGS)
@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data())
def test_bytes_survive_text_and_text_is_canonical(name: str, data: st.DataObject) -> None:
    config = CONFIGS[name]
    code = b"".join(data.draw(st.lists(words(config), max_size=8)))
    uops = b"".join(data.draw(st.lists(micro_ops(config), max_size=4)))
    text = disassemble(code, config, micro_ops=uops, numbered=data.draw(st.booleans()))
    assert ".word" not in text
    assembly = assemble(text)
    assert (assembly.config, assembly.instructions, assembly.micro_ops) == (config, code, uops)
    plain = disassemble(code, config, micro_ops=uops)
    assert [line.split(";")[0].rstrip() for line in text.splitlines()] == plain.splitlines()
    again = assemble(plain, config)
    assert disassemble(again.instructions, config, micro_ops=again.micro_ops) == plain


@pytest.mark.parametrize("name", CONFIGS)
@settings(max_examples=40, deadline=None, derandomize=True)
@given(data=st.data())
def test_any_bytes_survive_text(name: str, data: st.DataObject) -> None:
    """Illegal opcodes, memories and reserved bits too: a hostile program can be looked at."""
    code = data.draw(st.binary(max_size=5 * INSN_BYTES))
    code = code[: len(code) // INSN_BYTES * INSN_BYTES]
    uops = data.draw(st.binary(max_size=5 * UOP_BYTES))
    uops = uops[: len(uops) // UOP_BYTES * UOP_BYTES]
    assembly = assemble(disassemble(code, CONFIGS[name], micro_ops=uops))
    assert (assembly.instructions, assembly.micro_ops) == (code, uops)


def test_every_vector_survives_text(vectors: list[Any]) -> None:
    assert len(vectors) == 62
    for vector in vectors:
        # DRAM is read as micro-ops whatever it holds.
        uops = vector.dram[-1024:]
        text = disassemble(vector.instructions, vector.config, micro_ops=uops)
        assembly = assemble(text)
        assert assembly.config == vector.config
        assert assembly.instructions == vector.instructions, vector.name
        assert assembly.micro_ops == uops, vector.name
        # Vectors are legal, so each instruction is shown in words.
        assert ".word" not in text.split(".insns")[1], vector.name


def test_worked_program_reads_as_documented() -> None:
    text = """\
.config LOG_BATCH=1 LOG_WGT_BUFF_SIZE=17
.uops
  uop dst=5 src=9 wgt=3
  uop
.insns
  load inp sram_base=18 dram_base=0x3456 y_size=4 x_size=5 x_stride=9 x_pad_0=3 pop_next push_next
  alu shr uop_end=1 iter_out=1 iter_in=64 dst_factor_in=1 src_factor_in=1 imm=-3 push_next use_imm
  gemm uop_end=1 iter_out=7 iter_in=3 pop_prev reset
  store uop
  finish
"""
    assembly = assemble(text)
    assert assembly.config == CoreConfig(log_batch=1, log_wgt_buff_size=17)
    assert assembly.lines == (6, 7, 8, 9, 10)
    isa = instruction_set(assembly.config)
    alu = isa.decode(assembly.instructions[INSN_BYTES : 2 * INSN_BYTES])
    assert (alu.opcode, alu["imm"], alu["use_imm"], alu["push_next"]) == (Opcode.ALU, -3, 1, 1)
    shown = disassemble(assembly.instructions, assembly.config, micro_ops=assembly.micro_ops)
    assert shown == text


def test_every_spelling_of_a_word_means_the_same() -> None:
    canonical = assemble("alu shr imm=-3 use_imm iter_in=16")
    for text in (
        "ALU SHR IMM=-3 USE_IMM ITER_IN=16 ; a comment; and more",
        "alu alu_op=shr imm=-0x3 use_imm=1 iter_in=0x10",
        "\n\n  alu iter_in=+16 use_imm alu_op=3   imm=-3 push_next=0\t;x",
        "; nothing\n.insns\n.uops\n.insns\nalu shr imm=-3 use_imm iter_in=0X10",
    ):
        assert assemble(text).instructions == canonical.instructions
    assert assemble("").instructions == b""


def test_sections_may_alternate() -> None:
    assembly = assemble("finish\n.uops\nuop dst=1\n.insns\nfinish\n.uops\nuop dst=2")
    assert len(assembly.instructions) == 2 * INSN_BYTES
    uops = instruction_set(CoreConfig()).uop
    assert assembly.micro_ops == uops.pack(dst=1) + uops.pack(dst=2)


def test_caller_chooses_the_configuration_that_the_text_leaves_open(
    configs: dict[str, CoreConfig],
) -> None:
    text = "gemm wgt_factor_in=1"
    for config in configs.values():
        assembly = assemble(text, config)
        assert assembly.config == config
        decoded = instruction_set(config).decode(assembly.instructions)
        assert decoded["wgt_factor_in"] == 1
    same = assemble(".config LOG_BATCH=1\n" + text, CoreConfig(log_batch=1))
    assert same.config == CoreConfig(log_batch=1)


@pytest.mark.parametrize(
    ("text", "line", "token", "words"),
    [
        ("finish\nlod inp", 2, "lod", "did you mean load?"),
        ("frobnicate", 1, "frobnicate", "known: load, store, gemm, finish, alu"),
        ("load", 1, "load", "write one of uop, wgt, inp, acc, out, acc_8bit"),
        ("alu imm=3", 1, "alu", "write one of min, max, add, shr, mul"),
        ("load imp", 1, "imp", "did you mean inp?"),
        ("load inp srm_base=3", 1, "srm_base=3", "did you mean sram_base?"),
        ("load inp sram_base=65536", 1, "sram_base=65536", "holds 0 to 65535, not 65536"),
        ("load inp sram_base=-1", 1, "sram_base=-1", "holds 0 to 65535, not -1"),
        ("alu shr imm=-32769", 1, "imm=-32769", "holds -32768 to 32767"),
        ("load inp sram_base", 1, "sram_base", "write sram_base=NUMBER"),
        ("load inp sram_base=", 1, "sram_base=", "write it in decimal or as 0x"),
        ("load inp sram_base=1_0", 1, "sram_base=1_0", "write it in decimal or as 0x"),
        ("load inp sram_base=" + "9" * 5000, 1, "sram_base=" + "9" * 5000, "absurdly long"),
        ("load inp memory=shr", 1, "memory=shr", "is no number"),
        ("load inp wgt", 1, "wgt", "LOAD.memory is given twice"),
        ("load inp push_next push_next=0", 1, "push_next=0", "is given twice"),
        ("finish opcode=0", 1, "opcode=0", "FINISH has no field opcode"),
        ("gemm use_imm", 1, "use_imm", "means nothing to GEMM"),
        ("uop dst=1", 1, "uop", "write .uops first"),
        (".uops\n\nupo dst=1", 3, "upo", "did you mean uop?"),
        (".uops\nuop dst=2048", 2, "dst=2048", "micro-op.dst holds 0 to 2047"),
        (".uops finish", 1, "finish", "stands alone"),
        (".insn", 1, ".insn", "did you mean .insns?"),
        (".word", 1, ".word", "takes one number of 128 bits"),
        (".word 1 2", 1, ".word", "takes one number of 128 bits"),
        (".word 0x" + "f" * 33, 1, "0x" + "f" * 33, "holds 0 to 2**128 - 1"),
        (".uops\n.word -1", 2, "-1", "holds 0 to 2**32 - 1"),
        (".config LOG_BATH=1", 1, "LOG_BATH=1", "did you mean LOG_BATCH?"),
        (".config LOG_BATCH", 1, "LOG_BATCH", "written KEY=NUMBER"),
        (".config LOG_BATCH=1 LOG_BATCH=1", 1, "LOG_BATCH=1", "given twice"),
        (".config TARGET=2", 1, "TARGET=2", "has no parameter TARGET"),
        (".config LOG_ACC_BUFF_SIZE=20", 1, "LOG_ACC_BUFF_SIZE=20", "overflows"),
        ("finish\n.config LOG_BATCH=1", 2, ".config", "move it up"),
    ],
)
def test_error_names_line_word_and_way_out(text: str, line: int, token: str, words: str) -> None:
    with pytest.raises(AssemblyError, match=re.escape(words)) as caught:
        assemble(text)
    assert (caught.value.line, caught.value.token) == (line, token)
    assert str(caught.value).startswith(f"Line {line}: ")
    assert isinstance(caught.value, IsaError)


def test_text_of_another_core_is_refused() -> None:
    with pytest.raises(AssemblyError, match=r"for a core 2x16_\w+, not for 1x16_"):
        assemble(".config LOG_BATCH=1", CoreConfig())
    with pytest.raises(AssemblyError, match="for a core 1x16_"):
        assemble(".config", CoreConfig(log_batch=1))


def test_streams_of_odd_length_are_refused() -> None:
    with pytest.raises(EncodingError, match="Instructions are a multiple of 16 bytes, not 17"):
        disassemble(bytes(17))
    with pytest.raises(EncodingError, match="Micro-ops are a multiple of 4 bytes, not 3"):
        disassemble(b"", micro_ops=bytes(3))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.text(alphabet="loadinpgemuxsr0123456789=-_.;\n\t x", max_size=80))
def test_no_text_does_worse_than_an_assembly_error(text: str) -> None:
    try:
        assemble(text)
    except AssemblyError as error:
        line = error.line
    else:
        return
    assert 1 <= line <= len(text.splitlines())
