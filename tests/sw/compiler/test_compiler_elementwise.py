"""Random element-wise layers and activations: the device computes them bit for bit, legally."""

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ginseng.compiler import Graph, Value
from ginseng.compiler.operators.add import Add
from ginseng.compiler.operators.clip import Clip
from ginseng.compiler.operators.conv2d import Conv2d
from ginseng.compiler.operators.leaky_relu import LeakyRelu
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
    """Sums and differences with every kind of second operand, rescaling and rectifier."""
    shape = draw(shapes)
    kind = draw(st.sampled_from(["value", "pixel", "constant"]))
    rng = np.random.default_rng(draw(seeds))
    lo, hi = draw(activations)
    channels = st.integers(-200, 200).filter(bool)
    factors = (draw(channels), draw(st.one_of(channels, st.sampled_from([1 << 15, -(3 << 14)]))))
    if draw(st.booleans()):
        rescale = Rescale.shifted(draw(st.integers(0, 10)))
    else:
        count = draw(st.sampled_from([1, shape[0]]))
        rescale = Rescale(
            before=draw(st.integers(0, 6)),
            multiplier=tuple(map(int, rng.integers(1, 90, count))),
            offset=tuple(map(int, rng.integers(-90000, 90000, count))),
            shift=tuple(map(int, rng.integers(6, 20, count))),
        )
    node = Add(
        name="add",
        inputs=("a",) if kind == "constant" else ("a", "b"),
        output=Value(name="y", shape=shape, shift=0, lo=lo, hi=hi),
        factors=factors,
        rescale=rescale,
        slope=draw(st.one_of(st.none(), slopes(shape[0]))),
        constant=rng.integers(-128, 128, shape).astype(np.int8) if kind == "constant" else None,
    )
    a = Value(name="a", shape=shape, shift=0, lo=draw(st.sampled_from([0, -128])))
    other = Value(name="b", shape=shape if kind == "value" else (shape[0], 1, 1), shift=0)
    return single(node, a, *(() if kind == "constant" else (other,)))


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
@given(data=st.data(), shape=shapes, clip=activations, seed=seeds)
def test_leaky_rectifiers_of_their_own_are_exact(agrees, data, shape, clip, seed):
    node = LeakyRelu(
        name="leaky",
        inputs=("x",),
        output=Value(name="y", shape=shape, shift=0, lo=clip[0], hi=clip[1]),
        slope=data.draw(slopes(shape[0])),
    )
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


def test_a_slope_is_the_nearest_that_sixteen_bits_can_state():
    assert Slope.nearest([0.125]) == Slope(multiplier=(1,), shift=3)
    tenth = Slope.nearest([0.1])
    assert abs(tenth.multiplier[0] / 2**tenth.shift - 0.1) < 1e-4
    assert Slope.nearest([-3.0, 0.5]) == Slope(multiplier=(-6, 1), shift=1)
