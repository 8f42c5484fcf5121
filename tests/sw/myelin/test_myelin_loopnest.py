"""Loop nests in which something is wrong with the place of an example, and some in which not."""

import pytest

pytest.importorskip("tvm", reason="comes with the extra tvm")

from tvm import te, tirx

from ginseng.myelin.checker.check import check_function

X = {"x": ((7, 4), "float32")}
SQUARE = {"x": ((7, 7), "float32")}
INDEX = {"x": ((7,), "int32")}
TWO = {"x": ((7, 4), "float32"), "y": ((7, 4), "float32")}


def compute(shape, body):
    return lambda x, *others: te.compute(shape, lambda *at: body(x, *others, *at), "made")


def total(shape, over, body):
    def make(x):
        k = te.reduce_axis((0, over), "k")
        return te.compute(shape, lambda *at: te.sum(body(x, k, *at), k), "made")

    return make


def two_steps(first, second):
    """Return a nest of two blocks; the first writes what the second reads."""

    def make(x):
        kept = te.compute(x.shape, lambda i, j: first(x, i, j), "kept")
        return te.compute(x.shape, lambda i, j: second(kept, i, j), "made")

    return make


GOOD = {
    "copy": (X, compute((7, 4), lambda x, i, j: x[i, j])),
    "moved": (X, compute((4, 7), lambda x, j, i: x[i, 3 - j])),
    "own condition": (
        X,
        compute((7, 4), lambda x, i, j: tirx.if_then_else(j < 2, x[i, j], x[i, 0] * 2.0)),
    ),
    "own sum": (X, total((7,), 4, lambda x, k, i: x[i, k])),
    "own index": (
        INDEX,
        compute(
            (7, 3),
            lambda x, i, j: tirx.if_then_else(
                x[i] == j, tirx.const(1.0, "float32"), tirx.const(0.0, "float32")
            ),
        ),
    ),
    "two steps": (X, two_steps(lambda x, i, j: x[i, 3 - j], lambda k, i, j: k[i, j] + k[i, 0])),
    "two inputs": (TWO, compute((7, 4), lambda x, y, i, j: x[i, j] * y[i, 3 - j])),
}
BAD = {
    "place as a number": (
        X,
        compute((7, 4), lambda x, i, j: x[i, j] * i.astype("float32")),
        "used as a number",
    ),
    "place in a condition": (
        X,
        compute((7, 4), lambda x, i, j: tirx.if_then_else(i < 3, x[i, j], x[i, 0])),
        "used as a number",
    ),
    "the next one's": (
        X,
        compute((7, 4), lambda x, i, j: x[tirx.floormod(i + 1, 7), j]),
        "at a place that is computed",
    ),
    "the first's": (X, compute((7, 4), lambda x, i, j: x[0, j]), "at a place that is computed"),
    "backwards": (X, compute((7, 4), lambda x, i, j: x[6 - i, j]), "at a place that is computed"),
    "some": (X, compute((2, 4), lambda x, i, j: x[i, j]), "not all those of one loop"),
    "sum over examples": (
        X,
        total((4,), 7, lambda x, k, j: x[k, j]),
        "adds up examples, or writes them to places of others",
    ),
    "diagonal": (SQUARE, compute((7,), lambda x, i: x[i, i]), "used as a number"),
    "spread": (
        INDEX,
        compute((7, 7), lambda x, i, j: x[i] + x[j]),
        "at one place and another at another",
    ),
    "an example and itself transposed": (
        SQUARE,
        compute((7, 7), lambda x, i, j: x[i, j] + x[j, i]),
        "at one place and another at another",
    ),
    "code from outside": (
        X,
        compute((7, 4), lambda x, i, j: tirx.call_extern("float32", "evil", x[i, j])),
        "no rule for a call of",
    ),
    "second step mixes": (
        X,
        two_steps(lambda x, i, j: x[i, 3 - j], lambda k, i, j: k[6 - i, j]),
        "at a place that is computed",
    ),
}


def check(graphs, inputs, make):
    module = graphs.build(inputs, lambda builder, *tensors: builder.call_te(make, *tensors))
    return check_function(module["main"], list(inputs), module)


@pytest.mark.parametrize(("inputs", "make"), GOOD.values(), ids=GOOD)
def test_a_nest_that_keeps_examples_apart_is_accepted(graphs, inputs, make):
    verdict = check(graphs, inputs, make)
    # "moved" has the examples on its second axis, and is refused for that alone.
    assert verdict.accepted or verdict.node == "the result", verdict.reason


@pytest.mark.parametrize(("inputs", "make", "reason"), BAD.values(), ids=BAD)
def test_a_nest_that_does_not_is_refused(graphs, inputs, make, reason):
    verdict = check(graphs, inputs, make)
    assert not verdict.accepted
    assert reason in verdict.reason
    assert "call_tir(" in verdict.node


def test_a_nest_whose_module_is_not_there_is_refused(graphs):
    inputs, make = GOOD["copy"]
    module = graphs.build(inputs, lambda builder, x: builder.call_te(make, x))
    assert "the module is not there" in check_function(module["main"], ["x"]).reason
