import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from ginseng.benchmarks.digits import MODEL, Digits, load_digits, split
from ginseng.benchmarks.digits.train import backward, export, forward, initialise, train


def test_the_split_is_fixed_and_nothing_is_in_both_parts():
    training, held = split(load_digits())
    again = split(load_digits())
    assert (len(training.labels), len(held.labels)) == (1437, 360)
    assert np.array_equal(held.images, again[1].images)
    seen = {image.tobytes() for image in training.images}
    assert sum(image.tobytes() in seen for image in held.images) == 0


def test_the_shipped_network_reads_held_back_digits():
    _, held = split(load_digits())
    evaluator = ReferenceEvaluator(onnx.load_from_string(MODEL.read_bytes()))
    guesses = [evaluator.run(None, {"image": x[None]})[0].argmax() for x in held.images]
    assert np.mean(guesses == held.labels) >= 0.97


def test_what_is_trained_is_what_is_exported():
    training, held = split(load_digits())
    few = Digits(training.images[:96], training.labels[:96])
    parameters = train(few, epochs=1)
    logits, _ = forward(parameters, held.images[:4])
    evaluator = ReferenceEvaluator(export(parameters))
    exported = [evaluator.run(None, {"image": x[None]})[0][0] for x in held.images[:4]]
    np.testing.assert_allclose(logits, exported, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["stem.w", "body.b", "residual.w", "dense.w"])
def test_gradients_are_those_of_finite_differences(name):
    parameters = {k: v.astype(np.float64) for k, v in initialise().items()}
    images = np.random.default_rng(1).random((3, 1, 8, 8))
    weights = np.random.default_rng(2).random((3, 10))
    _, keep = forward(parameters, images)
    gradient = backward(parameters, keep, weights)[name]
    place = np.unravel_index(gradient.size // 3, gradient.shape)
    values = []
    for step in (1e-5, -1e-5):
        moved = parameters | {name: parameters[name].copy()}
        moved[name][place] += step
        values.append((forward(moved, images)[0] * weights).sum())
    assert gradient[place] == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-2)
