import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ginseng.isa.table import Source
from ginseng.program import load, save, seal_program

VECTORS = Path(__file__).parents[1] / "vectors/vta"
CASES = sorted(VECTORS.glob("*.npz"))


def test_every_vector_is_exact_on_the_model_board(ginseng_json, tmp_path):
    assert len(CASES) == 62
    cases = ginseng_json("vta", "run", *CASES, "--board", "model", "-o", tmp_path)["cases"]
    assert [c["name"] for c in cases] == [p.stem for p in CASES]
    assert all(c["match"] is True for c in cases)
    after = np.load(tmp_path / f"{CASES[0].stem}.after.npy")
    with np.load(CASES[0]) as case:
        meta = json.loads(str(case["meta"]))
        low = meta["after_lo"]
        assert np.array_equal(after[low : low + len(case["after_bytes"])], case["after_bytes"])
        assert len(after) == len(case["dram_before"])


def test_a_wrong_result_and_a_fault_give_a_non_zero_status(ginseng, tmp_path):
    with np.load(CASES[0]) as file:
        case = dict(file)
    wrong = case | {"after_bytes": case["after_bytes"] ^ 1}
    np.savez(tmp_path / "wrong.npz", **wrong)
    meta = json.loads(str(case["meta"]))
    broken = case["dram_before"].copy()
    broken[meta["insn_addr"]] = 7
    np.savez(tmp_path / "broken.npz", **(case | {"dram_before": broken}))
    status, out, _ = ginseng(
        "vta", "run", tmp_path / "broken.npz", tmp_path / "wrong.npz", CASES[1], "--json"
    )
    cases = json.loads(out)["cases"]
    assert status == 1
    assert [c["match"] for c in cases] == [False, False, True]
    assert "fault" in cases[0]


def test_text_and_binary_of_a_program_turn_into_each_other(ginseng, tmp_path):
    for case in (CASES[0], next(p for p in CASES if "config" in p.name)):
        _, text, _ = ginseng("vta", "dis", case)
        (tmp_path / "program.s").write_text(text)
        assert ginseng("vta", "asm", tmp_path / "program.s", "-o", tmp_path / "p.npz")[0] == 0
        assert ginseng("vta", "dis", tmp_path / "p.npz")[1] == text
        assert ginseng("vta", "asm", tmp_path / "program.s", "-o", tmp_path / "p.bin")[0] == 0
        with np.load(case) as file:
            meta = json.loads(str(file["meta"]))
            words = file["dram_before"][meta["insn_addr"] :][: 16 * meta["insn_count"]]
        assert (tmp_path / "p.bin").read_bytes() == words.tobytes()


@pytest.mark.tvm
def test_a_compiled_network_runs_protected_and_says_what_its_owner_expects(
    ginseng_json, digits, tmp_path
):
    document = ginseng_json(
        "run",
        digits / "digits.ginseng",
        "--input",
        digits / "images.npy",
        "-o",
        tmp_path / "y.npy",
        "--audit",
        tmp_path / "audit.jsonl",
    )
    logits = np.load(tmp_path / "y.npy")
    assert document["samples"] == 5
    assert logits.shape == (5, 10)
    # One of the five is misread by the float network too.
    assert (logits.argmax(1) == np.load(digits / "labels.npy")).sum() == 4
    lines = (tmp_path / "audit.jsonl").read_text().splitlines()
    events = [json.loads(line)["event"] for line in lines]
    assert events.count("run") == 5


@pytest.mark.tvm
def test_a_third_party_verifies_the_evidence_of_a_run(ginseng, ginseng_json, digits, tmp_path):
    ginseng_json(
        "run",
        digits / "digits.ginseng",
        "--input",
        digits / "images.npy",
        "--evidence",
        tmp_path,
    )
    command = shlex.split((tmp_path / "verify.sh").read_text().splitlines()[1])[2:]
    assert ginseng_json(*command)["accepted"] is True
    command[command.index("--max-runs") + 1] = "7"
    status, out, _ = ginseng(*command, "--json")
    assert status == 1
    assert json.loads(out)["claim"] == "pcr2"


@pytest.mark.tvm
def test_measure_gives_registers_that_depend_on_every_input(ginseng_json, digits, tmp_path):
    save(seal_program(load(digits / "digits.ginseng"), bytes(32)), tmp_path / "sealed.ginseng")

    def final(*options):
        return ginseng_json("measure", tmp_path / "sealed.ginseng", *options)["final"]

    slots = ("--commitment", f"1={'11' * 32}", "--commitment", f"2={'22' * 32}")
    base = final(*slots)
    assert len(base) == 8
    assert final(*slots, "--max-runs", "2")[2] != base[2]
    assert final(*slots, "--monitor-rom", "00" * 32)[1] != base[1]
    other = final(slots[0], f"1={'33' * 32}", *slots[2:])
    assert [n for n in range(8) if other[n] != base[n]] == [7]


@pytest.mark.tvm
def test_the_compiled_file_is_the_same_every_time(ginseng, digits, tmp_path):
    for seed in ("1", "2"):
        subprocess.run(
            [
                *(sys.executable, "-m", "ginseng.cli.app", "compile", digits / "digits.onnx"),
                *("--calibrate", digits / "calibration.npz", "-o", tmp_path / seed),
            ],
            env=os.environ | {"PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
        )
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()
    assert (tmp_path / "1").read_bytes() == (digits / "digits.ginseng").read_bytes()


@pytest.mark.tvm
def test_a_report_names_the_layers_that_cost_most(ginseng_json, digits, tmp_path):
    inputs = (digits / "digits.onnx", "--calibrate", digits / "calibration.npz")
    options = ("--calibration", "mse", "--report", "-o", tmp_path / "out")
    accuracy = ginseng_json("compile", *inputs, *options)["accuracy"]
    assert accuracy["samples"] == 64
    assert len(accuracy["layers"]) == 7
    assert min(layer["snr_db"] for layer in accuracy["layers"]) > 25
    assert set(accuracy["worst"]) < {layer["name"] for layer in accuracy["layers"]}


@pytest.mark.tvm
def test_a_plan_says_how_each_layer_is_scheduled_and_why(ginseng, ginseng_json, digits, tmp_path):
    inputs = (digits / "digits.onnx", "--calibrate", digits / "calibration.npz")
    out = ("-o", tmp_path / "out")
    document = ginseng_json("compile", *inputs, *out, "--explain", "--memory", "realistic")
    plan = document["plan"]
    assert document["memory"] == "realistic"
    assert [layer["name"] for layer in plan] == [layer["name"] for layer in document["layers"]]
    assert sum(layer["cycles"] for layer in plan) == document["cycles_protected"]
    tuned = [layer for layer in plan if layer["tuned"]]
    assert {layer["kind"] for layer in tuned} == {"conv2d", "dense"}
    assert all(layer["reason"] and layer["tuned"]["tried"] for layer in tuned)
    status, shown, _ = ginseng("compile", *inputs, *out, "--explain")
    assert status == 0
    assert "Tilings" in shown


@pytest.mark.tvm
def test_the_roofline_of_a_program_is_drawn(ginseng, digits, tmp_path):
    pytest.importorskip("matplotlib", reason="drawing needs ginseng[plot]")
    inputs = (digits / "digits.onnx", "--calibrate", digits / "calibration.npz")
    picture = tmp_path / "roofline.png"
    status, _, error = ginseng("compile", *inputs, "-o", tmp_path / "out", "--plot", picture)
    assert status == 0, error
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.tvm
def test_the_demo_tells_the_whole_story(ginseng_json):
    story = ginseng_json("demo", "--images", "40")
    assert story["board"] == "model"
    assert story["simulated"]
    assert story["accuracy_float"] >= 0.97
    assert story["accuracy_device"] >= story["accuracy_float"] - 0.025  # one image of 40
    assert story["bytes_protected"] > 30_000
    assert story["blocks_in_clear"] == 0
    assert len(story["attacks"]) == 5
    assert {a["outcome"] for a in story["attacks"]} <= {"fatal", "refused"}
    assert story["control"] == {"outcome": "silent"}


@pytest.mark.tvm
def test_weights_of_a_compiled_program_are_measured_and_travel_sealed(digits):
    program = load(digits / "digits.ginseng")
    weights = [t for t in program.tensors if t.slot == 1]
    assert weights
    assert all(t.measured and t.source is Source.SEALED for t in weights)
    assert not program.is_sealed


@pytest.mark.tvm
def test_the_compiler_benchmark_prints_its_table(ginseng_json):
    (row,) = ginseng_json("bench", "compiler", "--network", "digits")["networks"]
    assert row["name"] == "digits"
    assert row["bit_exact"] is True
    assert row["samples"] == 360
    assert row["accuracy_float"] > 0.97
    assert row["accuracy_device"] >= row["accuracy_float"] - 0.01
