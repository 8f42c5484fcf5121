"""Random layers: the device computes their integer semantics bit for bit, legally."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ginseng.compiler import Graph, Value
from ginseng.compiler.operators.conv2d import Conv2d
from ginseng.compiler.operators.dense import Dense
from ginseng.compiler.operators.max_pool import MaxPool
from ginseng.compiler.rescale import Rescale
from ginseng.isa.config import CoreConfig

FEW = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
#: Buffers of a few tiles, blocks of eight channels and a batch of two.
SMALL = CoreConfig(
    log_batch=1,
    log_block=3,
    log_uop_buff_size=9,
    log_inp_buff_size=10,
    log_wgt_buff_size=11,
    log_acc_buff_size=12,
)
seeds = st.integers(0, 1 << 30)
activations = st.sampled_from([(-128, 127), (0, 127), (-7, 100), (0, 24)])


def out_size(extent, padding, reach, stride):
    return (extent + padding - reach) // stride + 1


def single(node, *inputs):
    return Graph(name="one", inputs=inputs, nodes=(node,), outputs=(node.output.name,))


@st.composite
def rescalings(draw, channels):
    """Shifts and multipliers, one for all channels or one for each."""

    def numbers(lo, hi):
        count = draw(st.sampled_from([1, channels]))
        return tuple(draw(st.lists(st.integers(lo, hi), min_size=count, max_size=count)))

    return Rescale(
        before=draw(st.integers(0, 12)),
        multiplier=numbers(1, 200),
        offset=numbers(-(1 << 20), 1 << 20),
        shift=numbers(0, 20),
    )


@st.composite
def convolutions(draw, limit=40, spatial=14, grouped=False):
    channels, outputs = draw(st.integers(1, limit)), draw(st.integers(1, limit))
    height, width = draw(st.integers(1, spatial)), draw(st.integers(1, spatial))
    dilation = (draw(st.integers(1, 2)), draw(st.integers(1, 2)))
    strides = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    padding = tuple(draw(st.integers(0, 2)) for _ in range(4))
    kernel = []
    for n, extent in enumerate((height, width)):
        room = (extent + padding[n] + padding[n + 2] - 1) // dilation[n] + 1
        kernel.append(draw(st.integers(1, min(4, room))))
    size = [
        out_size(e, padding[n] + padding[n + 2], (kernel[n] - 1) * dilation[n] + 1, strides[n])
        for n, e in enumerate((height, width))
    ]
    rng = np.random.default_rng(draw(seeds))
    lo, hi = draw(activations)
    groups = draw(st.sampled_from([n for n in range(1, channels + 1) if channels % n == 0]))
    groups = groups if grouped else 1
    outputs = groups * -(-outputs // groups)
    node = Conv2d(
        name="conv",
        inputs=("x",),
        output=Value(name="y", shape=(outputs, *size), shift=0, lo=lo, hi=hi),
        weight=rng.integers(-128, 128, (outputs, channels // groups, *kernel)).astype(np.int8),
        bias=rng.integers(-20000, 20000, outputs).astype(np.int32) * draw(st.integers(0, 1)),
        groups=groups,
        strides=strides,
        padding=padding,
        dilation=dilation,
        pad_value=draw(st.sampled_from([0, -128, 19])),
        rescale=Rescale.shifted(draw(st.integers(0, 14))),
    )
    return single(node, Value(name="x", shape=(channels, height, width), shift=0))


@FEW
@given(graph=convolutions(), seed=seeds)
def test_convolutions_are_exact(agrees, graph, seed):
    agrees(graph, seed=seed)


@FEW
@given(graph=convolutions(limit=20, spatial=6), seed=seeds)
def test_convolutions_are_exact_with_small_buffers_and_a_batch_of_two(agrees, graph, seed):
    """Buffers of a few tiles force every split: rows, blocks, kernel rows, single slots."""
    agrees(graph, seed=seed, core=SMALL)


@FEW
@given(graph=convolutions(limit=70, spatial=9, grouped=True), seed=seeds)
def test_grouped_and_depthwise_convolutions_are_exact(agrees, graph, seed):
    agrees(graph, seed=seed)


@FEW
@given(graph=convolutions(limit=30, spatial=6, grouped=True), seed=seeds)
def test_grouped_convolutions_are_exact_with_small_buffers(agrees, graph, seed):
    agrees(graph, seed=seed, core=SMALL)


def test_a_tap_of_a_depthwise_convolution_costs_one_micro_op_for_each_block(agrees):
    rng = np.random.default_rng(2)
    node = Conv2d(
        name="conv",
        inputs=("x",),
        output=Value(name="y", shape=(200, 6, 6), shift=0),
        weight=rng.integers(-128, 128, (200, 1, 3, 3)).astype(np.int8),
        bias=np.zeros(200, np.int32),
        padding=(1, 1, 1, 1),
        groups=200,
        rescale=Rescale.shifted(8),
    )
    _, run = agrees(single(node, Value(name="x", shape=(200, 6, 6), shift=0)), scheduler=1)
    resets = 6 * 6 * 13
    assert run.gemm_uops == 6 * 6 * 9 * 13 + resets


def test_a_convolution_that_needs_every_split_is_exact_under_any_interleaving(agrees):
    rng = np.random.default_rng(5)
    node = Conv2d(
        name="conv",
        inputs=("x",),
        output=Value(name="y", shape=(70, 14, 14), shift=0, lo=0),
        weight=rng.integers(-128, 128, (70, 100, 5, 3)).astype(np.int8),
        bias=rng.integers(-20000, 20000, 70).astype(np.int32),
        padding=(2, 1, 2, 1),
        rescale=Rescale.shifted(12),
    )
    graph = single(node, Value(name="x", shape=(100, 14, 14), shift=0))
    program, run = agrees(graph, scheduler=3)
    assert run.gemm_uops >= 14 * 14 * 5 * 7 * 15
    assert program.layers[0].macs == 14 * 14 * 70 * 100 * 15


@FEW
@given(
    shape=st.one_of(
        st.tuples(st.integers(1, 700)),
        st.tuples(st.integers(1, 40), st.integers(1, 6), st.integers(1, 6)),
    ),
    outputs=st.integers(1, 300),
    clip=activations,
    shift=st.integers(0, 16),
    seed=seeds,
)
def test_dense_layers_are_exact(agrees, shape, outputs, clip, shift, seed):
    rng = np.random.default_rng(seed)
    node = Dense(
        name="dense",
        inputs=("x",),
        output=Value(name="y", shape=(outputs,), shift=0, lo=clip[0], hi=clip[1]),
        weight=rng.integers(-128, 128, (outputs, int(np.prod(shape)))).astype(np.int8),
        bias=rng.integers(-(1 << 20), 1 << 20, outputs).astype(np.int32),
        rescale=Rescale.shifted(shift),
    )
    agrees(single(node, Value(name="x", shape=shape, shift=0)), seed=seed)


@FEW
@given(data=st.data(), features=st.integers(1, 40), outputs=st.integers(1, 40), seed=seeds)
def test_rescalings_of_every_channel_are_exact(agrees, data, features, outputs, seed):
    rng = np.random.default_rng(seed)
    node = Dense(
        name="dense",
        inputs=("x",),
        output=Value(name="y", shape=(outputs,), shift=0, lo=-100),
        weight=rng.integers(-128, 128, (outputs, features)).astype(np.int8),
        bias=rng.integers(-(1 << 20), 1 << 20, outputs).astype(np.int32),
        rescale=data.draw(rescalings(outputs)),
    )
    agrees(single(node, Value(name="x", shape=(features,), shift=0)), seed=seed)


@pytest.mark.parametrize("width", [600, 1000, 2100, 5003])
def test_wide_rows_are_exact(agrees, width):
    """One row is more than half of a buffer, or than a buffer: stripes of columns."""
    rng = np.random.default_rng(width)
    node = Conv2d(
        name="conv",
        inputs=("x",),
        output=Value(name="y", shape=(3, 3, width), shift=0),
        weight=rng.integers(-128, 128, (3, 2, 3, 3)).astype(np.int8),
        bias=np.zeros(3, np.int32),
        padding=(1, 1, 1, 1),
        rescale=Rescale.shifted(8),
    )
    agrees(single(node, Value(name="x", shape=(2, 3, width), shift=0)))


@pytest.mark.parametrize(("kernel", "dilation"), [(3, 18), (11, 4)])
def test_padding_beyond_what_a_load_can_pad_is_exact(agrees, kernel, dilation):
    """As in a dilated pyramid: eighteen pixels on every side."""
    rng = np.random.default_rng(kernel)
    pad = (kernel - 1) * dilation // 2
    node = Conv2d(
        name="conv",
        inputs=("x",),
        output=Value(name="y", shape=(20, 13, 9), shift=0),
        weight=rng.integers(-128, 128, (20, 24, kernel, kernel)).astype(np.int8),
        bias=rng.integers(-999, 999, 20).astype(np.int32),
        padding=(pad,) * 4,
        dilation=(dilation, dilation),
        rescale=Rescale.shifted(12),
    )
    agrees(single(node, Value(name="x", shape=(24, 13, 9), shift=0)), scheduler=kernel)


def test_layers_are_exact_with_a_micro_op_buffer_of_eight(agrees):
    """Too small for any ordinary kernel: kernels are split, and loaded again and again."""
    core = CoreConfig(log_uop_buff_size=5)
    rng = np.random.default_rng(1)
    source = Value(name="x", shape=(40, 9, 9), shift=0)
    conv = Conv2d(
        name="conv",
        inputs=("x",),
        output=Value(name="c", shape=(40, 8, 8), shift=0),
        weight=rng.integers(-128, 128, (40, 40, 3, 3)).astype(np.int8),
        bias=rng.integers(-9, 9, 40).astype(np.int32),
        padding=(1, 0, 0, 1),
        pad_value=5,
        rescale=Rescale.shifted(13),
    )
    pool = MaxPool(
        name="pool",
        inputs=("c",),
        output=Value(name="y", shape=(40, 6, 6), shift=0),
        kernel=(3, 3),
        strides=(1, 1),
    )
    graph = Graph(name="two", inputs=(source,), nodes=(conv, pool), outputs=("y",))
    agrees(graph, core=core, scheduler=2)
