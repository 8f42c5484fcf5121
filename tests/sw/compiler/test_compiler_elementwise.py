"""Random element-wise layers and activations: the device computes them bit for bit, legally."""

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ginseng.compiler import Graph, Value
from ginseng.compiler.operators.add import Add
from ginseng.compiler.operators.clip import Clip
from ginseng.compiler.operators.conv2d import Conv2d
from ginseng.compiler.operators.multiply import Multiply
from ginseng.compiler.operators.requantise import Requantise
from ginseng.compiler.rescale import Rescale
from ginseng.compiler.slope import Slope
from ginseng.isa.config import CoreConfig

FEW = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
seeds = st.integers(0, 1 << 30)
activations = st.sampled_from([(-128, 127), (0, 127), (-7, 100), (0, 24)])
shapes = st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40))


def single(node, *inputs):
    return Graph(name="one", inputs=inputs, nodes=(node,), outputs=(node.output.name,))


@st.composite
def slopes(draw, channels):
    count = draw(st.sampled_from([1, channels]))
    numbers = st.integers(0, 40) if draw(st.booleans()) else st.integers(-40, 40)
    multiplier = draw(st.lists(numbers, min_size=count, max_size=count))
    return Slope(multiplier=tuple(multiplier), shift=draw(st.integers(0, 7)))


@st.composite
def additions(draw):
    """Sums and differences with every kind of second operand, scale and rectifier."""
    shape = draw(shapes)
    kind = draw(st.sampled_from(["value", "pixel", "constant", "alone"]))
    rng = np.random.default_rng(draw(seeds))
    lo, hi = draw(activations)
    factors = st.one_of(
        st.integers(-32767, 32767).filter(bool), st.integers(0, 20).map(lambda n: 1 << n)
    )
    common = {
        "name": "add",
        "output": Value(name="y", shape=shape, shift=0, lo=lo, hi=hi),
        "offset": draw(st.one_of(st.integers(-500, 500), st.integers(-(1 << 22), 1 << 22))),
        "shift": draw(st.integers(0, 15)),
        "slope": draw(st.one_of(st.none(), slopes(shape[0]))),
    }
    a = Value(name="a", shape=shape, shift=0, lo=draw(st.sampled_from([0, -128])))
    if kind == "alone":
        node = Requantise(inputs=("a",), multiplier=(draw(factors),), **common)
        return single(node, a)
    common["multiplier"] = (draw(factors), draw(factors))
    if kind == "constant":
        extents = draw(st.sampled_from([shape, (shape[0], 1, 1)]))
        constant = rng.integers(-128, 128, extents).astype(np.int8)
        return single(Add(inputs=("a",), constant=constant, **common), a)
    other = Value(name="b", shape=shape if kind == "value" else (shape[0], 1, 1), shift=0)
    return single(Add(inputs=("a", "b"), **common), a, other)


@FEW
@given(graph=additions(), seed=seeds)
def test_sums_and_differences_are_exact(agrees, graph, seed):
    agrees(graph, seed=seed)


@FEW
@given(graph=additions(), seed=seeds)
def test_sums_are_exact_with_small_buffers_and_a_batch_of_two(agrees, graph, seed):
    core = CoreConfig(log_batch=1, log_block=3, log_uop_buff_size=9, log_acc_buff_size=12)
    agrees(graph, seed=seed, core=core, scheduler=seed)


@FEW
@given(shape=shapes, clip=activations, seed=seeds)
def test_activations_of_their_own_are_exact(agrees, shape, clip, seed):
    output = Value(name="y", shape=shape, shift=0, lo=clip[0], hi=clip[1])
    node = Clip(name="relu", inputs=("x",), output=output)
    agrees(single(node, Value(name="x", shape=shape, shift=0)), seed=seed)


@FEW
@given(data=st.data(), channels=st.integers(1, 40), size=st.integers(1, 12), seed=seeds)
def test_leaky_rectifiers_of_convolutions_are_exact(agrees, data, channels, size, seed):
    """Some sums are far beyond int16 before the rectifier."""
    rng = np.random.default_rng(seed)
    node = Conv2d(
        name="conv",
        inputs=("x",),
        output=Value(name="y", shape=(channels, size, size), shift=0, lo=-100),
        weight=rng.integers(-128, 128, (channels, 9, 3, 3)).astype(np.int8),
        bias=rng.integers(-(1 << 22), 1 << 22, channels).astype(np.int32),
        padding=(1, 1, 1, 1),
        rescale=Rescale.shifted(data.draw(st.integers(0, 14))),
        slope=data.draw(slopes(channels)),
    )
    agrees(single(node, Value(name="x", shape=(9, size, size), shift=0)), seed=seed)


@FEW
@given(
    shape=shapes,
    zeros=st.tuples(st.integers(-128, 127), st.integers(-128, 127)),
    spread=st.booleans(),
    multiplier=st.integers(1, 30000),
    shift=st.integers(0, 20),
    clip=activations,
    seed=seeds,
)
def test_products_are_exact(agrees, shape, zeros, spread, multiplier, shift, clip, seed):
    node = Multiply(
        name="product",
        inputs=("a", "b"),
        output=Value(name="y", shape=shape, shift=0, lo=clip[0], hi=clip[1]),
        zeros=zeros,
        rescale=Rescale(multiplier=(multiplier,), offset=(70000,), shift=(shift,)),
    )
    a = Value(name="a", shape=shape, shift=0)
    b = Value(name="b", shape=(shape[0], 1, 1) if spread else shape, shift=0, lo=-5)
    agrees(single(node, a, b), seed=seed)


def test_a_slope_is_the_nearest_that_sixteen_bits_can_state():
    assert Slope.nearest([0.125]) == Slope(multiplier=(1,), shift=3)
    tenth = Slope.nearest([0.1])
    assert abs(tenth.multiplier[0] / 2**tenth.shift - 0.1) < 1e-4
    assert Slope.nearest([-3.0, 0.5]) == Slope(multiplier=(-6, 1), shift=1)
