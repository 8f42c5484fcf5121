import json

import numpy as np
import pytest

from ginseng.benchmarks.digits import MODEL, load_digits, split
from ginseng.cli.app import main


@pytest.fixture
def ginseng(capsys):
    """Run the command line in this process: ``(status, standard output, standard error)``."""

    def call(*arguments):
        status = main([str(a) for a in arguments])
        out, err = capsys.readouterr()
        return status, out, err

    return call


@pytest.fixture
def ginseng_json(ginseng):
    """Run a command with ``--json`` that must succeed; return its document."""

    def call(*arguments):
        status, out, err = ginseng(*arguments, "--json")
        assert status == 0, err
        return json.loads(out)

    return call


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """The demo's network compiled by the command line, beside its data: a folder."""
    folder = tmp_path_factory.mktemp("digits")
    training, held = split(load_digits())
    (folder / "digits.onnx").write_bytes(MODEL.read_bytes())
    np.savez(folder / "calibration.npz", image=training.images[:64])
    np.save(folder / "images.npy", held.images[:5])
    np.save(folder / "labels.npy", held.labels[:5])
    arguments = ["compile", folder / "digits.onnx", "--calibrate", folder / "calibration.npz"]
    assert main([str(a) for a in (*arguments, "-o", folder / "digits.ginseng")]) == 0
    return folder
