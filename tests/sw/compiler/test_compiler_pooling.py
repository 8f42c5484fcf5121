"""Random pooling, padding and upsampling: the device computes them bit for bit, legally."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ginseng.compiler import CompilerError, Graph, Value
from ginseng.compiler.operators.average_pool import AveragePool
from ginseng.compiler.operators.global_average_pool import GlobalAveragePool, mean_rescale
from ginseng.compiler.operators.max_pool import MaxPool
from ginseng.compiler.operators.pad import Pad
from ginseng.compiler.operators.upsample import Upsample
from ginseng.compiler.rescale import Rescale
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
def windows(draw, spatial=20):
    """Extents of an image, what a window is, and how many outputs it has."""
    extents = (draw(st.integers(1, spatial)), draw(st.integers(1, spatial)))
    window = {"kernel": [], "strides": [], "padding": [], "size": []}
    for extent in extents:
        k = draw(st.integers(1, min(4, extent)))
        s, p, end = (
            draw(st.integers(1, 3)),
            draw(st.integers(0, k - 1)),
            draw(st.integers(0, k - 1)),
        )
        count = (extent + p + end - k) // s + 1
        while (count - 1) * s - p >= extent:
            count -= 1
        for name, value in zip(window, (k, s, p, count), strict=True):
            window[name].append(value)
    return extents, {name: tuple(value) for name, value in window.items()}


@FEW
@given(
    window=windows(),
    channels=st.integers(1, 40),
    clip=activations,
    lowest=st.sampled_from((-128, 0)),
    dilated=st.booleans(),
    seed=seeds,
)
def test_max_pooling_is_exact_and_padding_never_wins(
    agrees, window, channels, clip, lowest, dilated, seed
):
    extents, parts = window
    size = parts.pop("size")
    if dilated:
        # The same outputs, from a larger image: no window is lost.
        parts["dilation"] = (2, 3)
        extents = tuple(
            e + (k - 1) * (d - 1)
            for e, k, d in zip(extents, parts["kernel"], parts["dilation"], strict=True)
        )
    node = MaxPool(
        name="pool",
        inputs=("x",),
        output=Value(name="y", shape=(channels, *size), shift=0, lo=clip[0], hi=clip[1]),
        **parts,
    )
    source = Value(name="x", shape=(channels, *extents), shift=0, lo=lowest)
    agrees(single(node, source), seed=seed)


@FEW
@given(
    window=windows(),
    channels=st.integers(1, 40),
    clip=activations,
    included=st.booleans(),
    scale=st.integers(-2, 3),
    zero=st.sampled_from([0, 7, -128]),
    seed=seeds,
)
def test_average_pooling_is_exact_with_and_without_padding_counted(
    agrees, window, channels, clip, included, scale, zero, seed
):
    extents, parts = window
    size = parts.pop("size")
    counts = tuple(range(1, parts["kernel"][0] * parts["kernel"][1] + 1))
    source = Value(name="x", shape=(channels, *extents), shift=0, zero=zero)
    output = Value(name="y", shape=(channels, *size), shift=scale, lo=clip[0], hi=clip[1], zero=-3)
    node = AveragePool(
        name="pool",
        inputs=("x",),
        output=output,
        counted=(*parts["padding"], 1, 1) if included else (0, 0, 0, 0),
        counts=counts,
        rescales=tuple(mean_rescale("pool", n, source, output) for n in counts),
        zero=zero,
        **parts,
    )
    agrees(single(node, source), seed=seed, scheduler=seed)


def test_means_are_the_nearest_integers():
    for count in (2, 9, 49):
        value = Value(name="x", shape=(1, 1, 1), shift=0)
        rescale = mean_rescale("pool", count, value, value)
        sums = np.arange(-count * 128, count * 127 + 1)
        means = (sums >> rescale.before) * rescale.multiplier[0] + rescale.offset[0]
        error = np.abs(sums / count - (means >> rescale.shift[0]))
        assert error.max() < 0.5 + 1 / count
    with pytest.raises(CompilerError, match="rescales sums"):
        mean_rescale("pool", 1 << 30, value, value)


@FEW
@given(
    shape=shapes,
    bias=st.one_of(st.just(0), st.integers(-200_000, 200_000)),
    before=st.integers(0, 12),
    multiplier=st.integers(1, 200),
    offset=st.integers(-(1 << 20), 1 << 20),
    shift=st.integers(0, 20),
    clip=activations,
    seed=seeds,
)
def test_global_average_pooling_is_exact(
    agrees, shape, bias, before, multiplier, offset, shift, clip, seed
):
    node = GlobalAveragePool(
        name="mean",
        inputs=("x",),
        output=Value(name="y", shape=(shape[0], 1, 1), shift=0, lo=clip[0], hi=clip[1]),
        bias=bias,
        rescale=Rescale(before=before, multiplier=(multiplier,), offset=(offset,), shift=(shift,)),
    )
    agrees(single(node, Value(name="x", shape=shape, shift=0)), seed=seed)


spreads = st.tuples(st.integers(1, 40), st.integers(1, 14), st.integers(1, 14))


@FEW
@given(
    shape=spreads,
    padding=st.tuples(*[st.integers(0, 20)] * 4),
    fill=st.sampled_from([0, 0, -128, 31]),
    clip=activations,
    seed=seeds,
)
def test_padding_of_any_width_is_exact(agrees, shape, padding, fill, clip, seed):
    top, left, bottom, right = padding
    extents = (shape[0], top + shape[1] + bottom, left + shape[2] + right)
    node = Pad(
        name="pad",
        inputs=("x",),
        output=Value(name="y", shape=extents, shift=0, lo=clip[0], hi=clip[1]),
        padding=padding,
        fill=fill,
    )
    agrees(single(node, Value(name="x", shape=shape, shift=0)), seed=seed)


@FEW
@given(
    shape=spreads,
    factors=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    clip=activations,
    small=st.booleans(),
    seed=seeds,
)
def test_upsampling_is_exact(agrees, shape, factors, clip, small, seed):
    extents = (shape[0], shape[1] * factors[0], shape[2] * factors[1])
    node = Upsample(
        name="up",
        inputs=("x",),
        output=Value(name="y", shape=extents, shift=0, lo=clip[0], hi=clip[1]),
        factors=factors,
    )
    core = CoreConfig(log_batch=1, log_block=3, log_acc_buff_size=14) if small else None
    agrees(single(node, Value(name="x", shape=shape, shift=0)), seed=seed, core=core)
