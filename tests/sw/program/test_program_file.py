import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from ginseng.isa.table import SlotUse
from ginseng.program import (
    PortSpec,
    ProgramError,
    SlotSpec,
    dumps,
    load,
    loads,
    save,
    seal_program,
)

SECRET = bytes(range(32))


@pytest.fixture(scope="module")
def file(tiny):
    return dumps(tiny.program)


@pytest.fixture(scope="module")
def tree(file):
    """The manifest as a tree, to be copied and changed."""
    header = int.from_bytes(file[:8], "little")
    return json.loads(json.loads(file[8 : 8 + header])["__metadata__"]["ginseng"])


def rebuilt(file, tree, arrays=None):
    text = (
        tree if isinstance(tree, str) else json.dumps(tree, sort_keys=True, separators=(",", ":"))
    )
    return save_tensors(arrays or load_tensors(file), {"ginseng": text})


def test_a_program_survives_the_file_plain_and_sealed(tiny, tmp_path):
    for program in (tiny.program, seal_program(tiny.program, SECRET)):
        save(program, tmp_path / "net.ginseng")
        assert load(tmp_path / "net.ginseng") == program
        assert (tmp_path / "net.ginseng").read_bytes() == dumps(loads(dumps(program)))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ProgramError, match=r"gone\.ginseng cannot be read"):
        load(tmp_path / "gone.ginseng")


def test_a_file_cut_at_any_length_is_refused(file):
    for length in sorted({*range(0, 200), *range(200, len(file), 37), len(file) - 1}):
        with pytest.raises(ProgramError):
            loads(file[:length])


def test_bytes_after_the_end_are_refused(file):
    with pytest.raises(ProgramError):
        loads(file + b"\0")


@settings(max_examples=150)
@given(data=st.binary(max_size=300))
def test_garbage_is_refused(data):
    with pytest.raises(ProgramError, match=r"no \.ginseng file"):
        loads(data)


@settings(max_examples=300)
@given(data=st.data())
def test_a_damaged_file_is_refused_or_another_valid_program(file, data):
    damaged = bytearray(file)
    header = 8 + int.from_bytes(file[:8], "little")
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, header - 1))] = data.draw(st.integers(0, 255))
    try:
        program = loads(bytes(damaged))
    except ProgramError:
        return
    assert loads(dumps(program)) == program


def paths(tree, at=()):
    """Every place in the manifest."""
    yield at
    if isinstance(tree, dict | list):
        for key in tree if isinstance(tree, dict) else range(len(tree)):
            yield from paths(tree[key], (*at, key))


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 70), 1 << 70)
    | st.floats(allow_nan=False)
    | st.sampled_from([16.0, 1.0, 0.0, 16, 1, 0, -1, True, "x", "", "code", "1"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


@settings(max_examples=400)
@given(data=st.data())
def test_a_wrong_manifest_field_is_refused_or_makes_another_valid_program(file, tree, data):
    places = [place for place in paths(tree) if place]
    place, value = data.draw(st.sampled_from(places)), data.draw(JSON)
    changed = json.loads(json.dumps(tree))
    parent = changed
    for key in place[:-1]:
        parent = parent[key]
    if parent[place[-1]] == value and type(parent[place[-1]]) is type(value):
        return
    parent[place[-1]] = value
    try:
        program = loads(rebuilt(file, changed))
    except ProgramError:
        return
    assert dumps(program) == rebuilt(file, changed)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("format",), "ginseng-program-0", "this release reads"),
        (("config_digest",), "00" * 32, "config_digest is not that of its configuration"),
        (("tensors", 2, "length"), 768.0, "of type int, not 768.0"),
        (("tensors", 2, "measured"), 1, "of type bool"),
        (("tensors", 2, "length"), 752, "has 752 bytes, its contents 768"),
        (("tensors", 2, "length"), 760, "multiple of 16"),
        (("tensors", 2, "chunk"), 1 << 20, "at most"),
        (("tensors", 2, "version"), 1 << 48, "48 bits"),
        (("tensors", 2, "slot"), 2, "which slot 2 cannot serve"),
        (("tensors", 2, "slot"), 5, "nobody's"),
        (("tensors", 2, "domain"), 9, "damaged"),
        (("tensors", 2, "name"), "bias", "same name"),
        (("tensors", 0, "handle"), -1, "handle"),
        (("tensors", 6, "handle"), 64, "beyond the 64 rows"),
        (("tensors", 6, "handle"), 3, "ascending"),
        (("slots", 0, "use"), 3, "either static or session"),
        (("slots", 0, "slot"), 0, "1 to 7"),
        (("slots", 0, "owner"), "", "no owner"),
        (("slots", 1, "slot"), 1, "ascending"),
        (("entry",), "start", "not in the table"),
        (("inputs", 0, "tensor"), "y", "needs a tensor of domain IMPORT"),
        (("inputs", 0, "shape"), [64], "64 bytes; x is of domain IMPORT and 32"),
        (("inputs", 0, "shape"), [0], "all positive"),
        (("inputs", 0, "shape"), [2, 3], "channels, height, width"),
        (("inputs", 0, "row_elements"), 0, "does not hold"),
        (("inputs", 0, "shift"), 4000, "shift"),
        (("inputs", 0, "mantissa"), 0, "mantissa"),
        (("outputs", 0, "zero"), 200, "zero point"),
        (("model_sha256",), "XY", "hexadecimal"),
        (("surplus",), 1, "canonical"),
    ],
)
def test_a_wrong_manifest_field_is_named(file, tree, place, value, message):
    changed = json.loads(json.dumps(tree))
    parent = changed
    for key in place[:-1]:
        parent = parent[key]
    parent[place[-1]] = value
    with pytest.raises(ProgramError, match=message):
        loads(rebuilt(file, changed))


def test_every_manifest_key_is_needed(file, tree):
    for key in tree:
        with pytest.raises(ProgramError):
            loads(rebuilt(file, {k: v for k, v in tree.items() if k != key}))


def test_a_manifest_out_of_canonical_form_is_refused(file, tree):
    with pytest.raises(ProgramError, match="canonical"):
        loads(rebuilt(file, json.dumps(tree)))


def test_a_deeply_nested_manifest_is_refused(file):
    with pytest.raises(ProgramError, match="damaged"):
        loads(rebuilt(file, "[" * 100_000))


def test_a_safetensors_file_of_somebody_else_is_refused():
    data = save_tensors({"a": np.zeros(3, np.float32)}, {"format": "pt"})
    with pytest.raises(ProgramError, match="without a Ginseng manifest"):
        loads(data)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("weights/plain", np.zeros(192, np.float32), "not a row of bytes"),
        ("weights/plain", np.zeros((3, 256), np.uint8), "not a row of bytes"),
        ("weights/tags", np.zeros(48, np.uint8), "no meaning"),
        ("weights/sealed", np.zeros(816, np.uint8), "there twice"),
        ("other/plain", np.zeros(16, np.uint8), "no such tensor"),
        ("y/plain", np.zeros(16, np.uint8), "weights and programs only"),
        ("weights", np.zeros(16, np.uint8), "no meaning"),
    ],
)
def test_arrays_that_contradict_the_manifest_are_refused(file, tree, name, array, message):
    arrays = load_tensors(file) | {name: array}
    with pytest.raises(ProgramError, match=message):
        loads(rebuilt(file, tree, arrays))


def test_absent_contents_are_refused(file, tree):
    arrays = load_tensors(file)
    del arrays["weights/plain"]
    with pytest.raises(ProgramError, match="contents are given"):
        loads(rebuilt(file, tree, arrays))


def test_a_program_for_a_build_without_protection_is_refused(tiny, bare_config):
    with pytest.raises(ProgramError, match="needs a build with a TEC"):
        replace(tiny.program, config=bare_config)


def test_contents_never_show_in_a_repr(tiny):
    assert "contents" not in repr(tiny.program)


def test_parts_are_checked_when_they_are_made():
    with pytest.raises(ProgramError, match="of type int"):
        SlotSpec(slot=np.int64(1), use=SlotUse.STATIC, owner="model")
    with pytest.raises(ProgramError, match="of type str"):
        PortSpec(name=1, tensor="x", shape=(1,), shift=0, row_elements=1)
