"""The demo's network, quantised by onnxruntime, from the command line: no calibration data."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnxruntime import quantization

pytestmark = pytest.mark.tvm


class Reader(quantization.CalibrationDataReader):
    """The calibration images, one by one."""

    def __init__(self, images):
        self._images = iter(images)

    def get_next(self):
        image = next(self._images, None)
        return None if image is None else {"image": image[None]}


@pytest.fixture(scope="module")
def model(digits, tmp_path_factory):
    """Return the path of the quantised network."""
    path = tmp_path_factory.mktemp("quantised") / "digits.onnx"
    with np.load(digits / "calibration.npz") as data:
        reader = Reader(data["image"])
    options = {"per_channel": True, "weight_type": quantization.QuantType.QInt8}
    quantization.quantize_static(digits / "digits.onnx", path, reader, **options)
    return path


def test_a_quantised_network_compiles_as_it_is_and_runs_protected(
    ginseng_json, digits, model, tmp_path
):
    program, logits = tmp_path / "q.ginseng", tmp_path / "y.npy"
    document = ginseng_json("compile", model, "-o", program)
    assert document["rows"] <= 64
    ginseng_json("run", program, "--input", digits / "images.npy", "-o", logits)
    ours = np.load(logits)
    session = onnxruntime.InferenceSession(model)
    images = np.load(digits / "images.npy")
    theirs = np.concatenate([session.run(None, {"image": image[None]})[0] for image in images])
    (scale,) = (
        onnx.numpy_helper.to_array(tensor)
        for tensor in onnx.load(model).graph.initializer
        if tensor.name == "logits_scale"
    )
    assert np.abs(ours - theirs).max() < 2.5 * scale
    assert (ours.argmax(1) == theirs.argmax(1)).all()


def test_calibration_data_for_it_are_refused_in_one_line(ginseng, digits, model, tmp_path):
    status, _, err = ginseng(
        "compile", model, "--calibrate", digits / "calibration.npz", "-o", tmp_path / "q.ginseng"
    )
    assert status == 1
    (line,) = (line for line in err.splitlines() if line.startswith("ginseng: "))
    assert "brings its own scales" in line
