from dataclasses import replace

import pytest

from ginseng.isa.insn import Opcode, instruction_set
from ginseng.program import dumps, loads, seal_program
from ginseng.secureos import DataOwner, QuoteRefusedError
from ginseng.secureos.errors import TermsError
from ginseng.secureos.exposure import check_program, export_readers

SECRET = bytes(range(32))
COMMITMENTS = {n: bytes([n]) * 32 for n in (1, 2, 3)}


@pytest.fixture(scope="module")
def program(tiny):
    return seal_program(tiny.program, SECRET)


def with_code(program, code):
    tensors = tuple(
        replace(t, length=len(code)) if t.name == "code" else t for t in program.tensors
    )
    return replace(program, tensors=tensors, contents=program.contents | {"code": code})


def test_the_tiny_program_is_legal(program):
    check_program(program)


def test_the_readers_of_every_export_are_listed(program):
    (reader,) = export_readers(program, COMMITMENTS)
    assert (reader.tensor, reader.slot, reader.owner) == ("y", 3, "data")
    assert reader.commitment == COMMITMENTS[3]
    assert reader.document["commitment"] == COMMITMENTS[3].hex()


@pytest.mark.sec("VERIFY.MEASURED_WEIGHTS")
def test_unmeasured_weights_of_several_owners_are_refused(program, maker, policy):
    tensors = tuple(
        replace(t, measured=False) if t.name == "weights" else t for t in program.tensors
    )
    loose = replace(program, tensors=tensors)
    with pytest.raises(QuoteRefusedError) as refused:
        check_program(loose)
    assert refused.value.claim == "table"
    assert "weights weights are not measured" in refused.value.reason
    with pytest.raises(QuoteRefusedError):
        DataOwner(dumps(loose), roots=(maker.root,), policy=policy)
    alone = tuple(replace(slot, owner="data") for slot in program.slots)
    check_program(replace(loose, slots=alone))


@pytest.mark.parametrize("cut", [-16, 16])
def test_an_illegal_program_is_refused_before_anything_is_committed(program, maker, policy, cut):
    code = program.contents["code"]
    short = with_code(program, code[:cut] if cut < 0 else code[cut:])
    with pytest.raises(QuoteRefusedError) as refused:
        DataOwner(dumps(short), roots=(maker.root,), policy=policy)
    assert refused.value.claim == "program"
    assert "instruction" in refused.value.reason


def test_a_program_that_loads_beyond_its_tensor_is_refused(program):
    encode = instruction_set(program.config.core).encode
    beyond = encode(Opcode.LOAD, memory=0, dram_base=(1 << 26) + 3, y_size=1, x_size=2)
    with pytest.raises(QuoteRefusedError, match="not legal"):
        check_program(with_code(program, beyond + program.contents["code"]))


def test_a_program_without_slots_for_the_data_owner_is_refused(program, maker, policy):
    with pytest.raises(TermsError, match="no session slots"):
        DataOwner(dumps(program), roots=(maker.root,), policy=policy, name="third")
    assert loads(dumps(program)) == program
