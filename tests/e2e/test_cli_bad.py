"""Bad input gives one clear line and a non-zero status, never a traceback."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ginseng.program import load, save, seal_program

CASE = sorted((Path(__file__).parents[1] / "vectors/vta").glob("*.npz"))[0]


@pytest.fixture
def refused(ginseng):
    """Run a command that must be refused in one line; return the line."""

    def call(*arguments):
        status, out, err = ginseng(*arguments)
        lines = [line for line in err.splitlines() if line.startswith("ginseng: ")]
        assert status in (1, 2), err
        assert len(lines) == 1, err
        assert "Traceback" not in err + out
        return lines[0]

    return call


def test_missing_files_are_named(refused, tmp_path):
    no = tmp_path / "no"
    for arguments in (
        ("run", no, "--input", no),
        ("measure", no),
        ("vta", "run", no),
        ("vta", "asm", no, "-o", tmp_path / "x"),
        ("vta", "dis", no),
        ("compile", no, "--calibrate", no, "-o", tmp_path / "x"),
        ("verify", no, "--nonce", "00", "--chain", no, "--root", no, "--policy", no),
    ):
        assert str(no) in refused(*arguments)


@pytest.mark.parametrize("keep", [0, 3, 100, 2000])
def test_a_case_cut_short_is_refused(refused, tmp_path, keep):
    (tmp_path / "cut.npz").write_bytes(CASE.read_bytes()[:keep])
    assert "cut.npz" in refused("vta", "run", tmp_path / "cut.npz")


def test_a_case_with_damaged_meta_is_refused(refused, tmp_path):
    with np.load(CASE) as file:
        case = dict(file)
    meta = json.loads(str(case["meta"]))
    for change in (
        {"config": "nobody"},
        {"insn_addr": -16},
        {"insn_count": 1 << 40},
        {"after_lo": 1 << 40},
        {"insn_addr": "x"},
    ):
        np.savez(tmp_path / "bad.npz", **(case | {"meta": json.dumps(meta | change)}))
        assert "bad.npz" in refused("vta", "run", tmp_path / "bad.npz")
    np.savez(tmp_path / "bad.npz", **(case | {"meta": "{"}))
    assert "bad.npz" in refused("vta", "run", tmp_path / "bad.npz")
    np.savez(tmp_path / "bad.npz", x=np.zeros(3))
    assert "dram_before" in refused("vta", "run", tmp_path / "bad.npz")


def test_bad_assembly_names_the_line(refused, tmp_path):
    (tmp_path / "bad.s").write_text("finish\nlaod inp\n")
    assert "2" in refused("vta", "asm", tmp_path / "bad.s", "-o", tmp_path / "x.bin")


def test_unknown_boards_and_commands_are_named(refused):
    assert "'moon' is not known" in refused("vta", "run", CASE, "--board", "moon")
    assert "'moon' is not known" in refused("demo", "--board", "moon")
    assert "fly" in refused("fly")
    assert "images" in refused("demo", "--images", "many")


@pytest.mark.parametrize(
    "command",
    [
        ("provision",),
        ("serve", "--port", "1"),
        ("sterling", "demo"),
        ("bench", "myelin"),
        ("bench", "sterling"),
    ],
)
def test_what_is_not_built_yet_says_so(refused, command):
    assert "not built yet" in refused(*command)


@pytest.mark.tvm
@pytest.mark.parametrize("keep", [0, 5, 200, 5000, 0.5, 0.999])
def test_a_program_cut_short_is_refused(refused, digits, tmp_path, keep):
    data = (digits / "digits.ginseng").read_bytes()
    size = int(keep * len(data)) if isinstance(keep, float) else keep
    (tmp_path / "cut.ginseng").write_bytes(data[:size])
    images = digits / "images.npy"
    assert "cut.ginseng" in refused("run", tmp_path / "cut.ginseng", "--input", images)


@pytest.mark.tvm
def test_inputs_of_another_shape_type_or_name_are_refused(refused, digits, tmp_path):
    x = tmp_path / "x.npy"
    program = digits / "digits.ginseng"
    for array in (
        np.zeros((2, 1, 8, 9)),
        np.zeros((1, 8, 8)),
        np.zeros((0, 1, 8, 8)),
        np.full((1, 1, 8, 8), np.nan),
        np.full((1, 1, 8, 8), "a"),
    ):
        np.save(x, array)
        assert "image" in refused("run", program, "--input", x)
    np.savez(tmp_path / "x.npz", picture=np.zeros((1, 1, 8, 8)))
    assert "picture" in refused("run", program, "--input", tmp_path / "x.npz")
    np.save(x, np.array([{}]), allow_pickle=True)
    assert "x.npy" in refused("run", program, "--input", x)


@pytest.mark.tvm
def test_a_sealed_program_cannot_be_run_without_its_owner(refused, digits, tmp_path):
    save(seal_program(load(digits / "digits.ginseng"), bytes(32)), tmp_path / "s.ginseng")
    assert "sealed" in refused("run", tmp_path / "s.ginseng", "--input", digits / "images.npy")


@pytest.mark.tvm
def test_measure_refuses_open_weights_and_wrong_commitments(refused, digits, tmp_path):
    assert "seal it first" in refused("measure", digits / "digits.ginseng")
    sealed = tmp_path / "s.ginseng"
    save(seal_program(load(digits / "digits.ginseng"), bytes(32)), sealed)
    assert "commitments of slots" in refused("measure", sealed)
    assert "SLOT=HEX" in refused("measure", sealed, "--commitment", "1=xy")
    assert "32 bytes" in refused("measure", sealed, "--commitment", "1=00")
    assert "hexadecimal" in refused("measure", sealed, "--monitor-rom", "zz")


@pytest.mark.tvm
def test_models_and_calibrations_that_cannot_be_used_are_refused(refused, digits, tmp_path):
    out, onnx = tmp_path / "o.ginseng", digits / "digits.onnx"
    calibration = digits / "calibration.npz"
    for suffix in ("onnx", "json", "py", "pt2"):
        junk = tmp_path / f"junk.{suffix}"
        junk.write_bytes(b"junk")
        assert junk.name in refused("compile", junk, "--calibrate", calibration, "-o", out)
    assert "no calibration data" in refused("compile", onnx, "-o", out)
    np.savez(tmp_path / "c.npz", picture=np.zeros((4, 1, 8, 8), np.float32))
    assert "image" in refused("compile", onnx, "--calibrate", tmp_path / "c.npz", "-o", out)
    no = tmp_path / "no/o.ginseng"
    method = refused("compile", onnx, "--calibrate", calibration, "-o", out, "--calibration", "x")
    assert "use minmax, mse, or percentile:SHARE" in method
    assert "cannot be written" in refused("compile", onnx, "--calibrate", calibration, "-o", no)
    assert not out.exists()


def test_a_missing_extra_is_named(tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"")
    np.savez(tmp_path / "c.npz", x=np.zeros(1))
    hide = "import sys; sys.modules.update(dict.fromkeys(%r)); "
    call = "from ginseng.cli.app import main; sys.exit(main(%r))"
    compile_arguments = ["compile", "m.onnx", "--calibrate", "c.npz", "-o", "o.ginseng"]
    for hidden, arguments, extra in (
        (["tvm"], compile_arguments, "ginseng[tvm]"),
        (["onnx"], ["demo"], "ginseng[demo]"),
        (["sklearn"], ["demo"], "ginseng[demo]"),
        (["tvm"], ["demo"], "ginseng[tvm]"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", hide % hidden + call % arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        assert f"pip install '{extra}'" in done.stderr
