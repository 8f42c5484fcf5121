"""`ginseng bench privacy`: real digits are learnt, and the document says at what cost."""

import json

import pytest

pytest.importorskip("tvm", reason="comes with the extra tvm")
pytest.importorskip("dp_accounting", reason="comes with the extra myelin")
pytest.importorskip("sklearn", reason="comes with the extra demo")

from ginseng.benchmarks.errors import BenchmarkError
from ginseng.benchmarks.privacy import measure, prepared
from ginseng.cli.app import main


def test_digits_are_learnt_within_the_budget_and_drawn(tmp_path, capsys):
    pytest.importorskip("matplotlib", reason="comes with the extra plot")
    picture = tmp_path / "curve.png"
    arguments = ["bench", "privacy", "--model", "linear", "--epsilon", "8", "--seeds", "1"]
    assert main([*arguments, "--json", "--plot", str(picture)]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["examples"], document["held"]) == (1437, 360)
    (row,) = document["rows"]
    assert 7.9 < row["epsilon"] <= 8
    assert 0.9 < row["lowest"] == row["accuracy"] == row["highest"] <= 1
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_an_image_is_prepared_by_itself():
    from ginseng.benchmarks.digits import load_digits

    images = load_digits().images[:9]
    whole = prepared(images)
    for n in range(9):
        assert (prepared(images[n : n + 1])[0] == whole[n]).all()


def test_a_model_that_is_not_there_is_named():
    with pytest.raises(BenchmarkError, match="No model is called big; there are linear, conv"):
        measure(models=["big"])
