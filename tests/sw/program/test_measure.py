from dataclasses import replace

import pytest

from ginseng.isa.formats import Pcr
from ginseng.program import ProgramError, SealedTensor, measure, seal_program

SECRET = bytes(range(32))
COMMITMENTS = {1: b"\1" * 32, 2: b"\2" * 32, 3: b"\3" * 32}
ROM = b"\7" * 32


@pytest.fixture(scope="module")
def sealed(tiny):
    return seal_program(tiny.program, SECRET)


def registers(program, **changes):
    terms = {"commitments": COMMITMENTS, "max_runs": 10, "monitor_rom": ROM} | changes
    return measure(program, **terms)


def changed(one, other):
    return {Pcr(n) for n in range(8) if one.final[n] != other.final[n]}


def with_content(program, name, content):
    return program.with_contents(program.contents | {name: content})


def test_each_part_of_the_setting_moves_its_register_only(sealed):
    base = registers(sealed)
    assert changed(base, registers(sealed)) == set()
    assert changed(base, registers(sealed, max_runs=11)) == {Pcr.TABLE}
    assert changed(base, registers(sealed, monitor_rom=bytes(32))) == {Pcr.MONITOR}
    for slot in COMMITMENTS:
        other = registers(sealed, commitments=COMMITMENTS | {slot: bytes(32)})
        assert changed(base, other) == {Pcr.SLOTS}


def test_each_part_of_the_program_moves_its_register_only(sealed):
    base = registers(sealed)
    for name in ("code", "uops"):
        content = bytes([sealed.contents[name][0] ^ 1]) + sealed.contents[name][1:]
        other = registers(with_content(sealed, name, content))
        assert changed(base, other) == {Pcr.PROGRAM}
    weights = sealed.contents["weights"]
    # The first byte of a chunk, the last of a tag.
    for content in (
        SealedTensor(bytes([weights.data[0] ^ 1]) + weights.data[1:]),
        SealedTensor(weights.data[:-1] + bytes([weights.data[-1] ^ 1])),
    ):
        other = registers(with_content(sealed, "weights", content))
        assert changed(base, other) == {Pcr.WEIGHTS}
    for name, change in (("y", {"measured": True}), ("x", {"chunk": 32}), ("bias", {"version": 1})):
        tensors = tuple(replace(t, **change) if t.name == name else t for t in sealed.tensors)
        assert changed(base, registers(replace(sealed, tensors=tensors))) == {Pcr.TABLE}
    config = replace(sealed.config, debug=True)
    assert changed(base, registers(replace(sealed, config=config))) == {Pcr.CONFIGURATION}


def test_sealed_weights_are_measured_after_lock(sealed):
    values = registers(sealed)
    differing = [n for n in range(8) if values.locked[n] != values.final[n]]
    assert differing == [Pcr.WEIGHTS]
    assert values.locked[Pcr.WEIGHTS] == bytes(32)
    assert values.final[Pcr.RUNS] == values.final[Pcr.RESERVED] == bytes(32)


def test_a_program_in_the_clear_has_no_measurement(tiny):
    with pytest.raises(ProgramError, match="weights in the clear"):
        registers(tiny.program)


@pytest.mark.parametrize(
    "commitments",
    [{}, {1: bytes(32), 2: bytes(32)}, COMMITMENTS | {4: bytes(32)}, COMMITMENTS | {3: b"short"}],
)
def test_commitments_that_do_not_fit_the_slots_are_refused(sealed, commitments):
    with pytest.raises(ProgramError, match="commitment"):
        registers(sealed, commitments=commitments)
