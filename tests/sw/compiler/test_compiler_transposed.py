"""Random transposed convolutions: the device computes their integer semantics bit for bit."""

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ginseng.compiler import Graph, Value
from ginseng.compiler.operators.conv2d_transpose import Conv2dTranspose
from ginseng.compiler.rescale import Rescale
from ginseng.isa.config import CoreConfig

FEW = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
seeds = st.integers(0, 1 << 30)


def graph_of(rng, channels, outputs, image, kernel, *, groups=1, **attributes):
    """Return a graph of one transposed convolution with random weights."""
    weight = rng.integers(-128, 128, (outputs, channels // groups, *kernel)).astype(np.int8)
    parts = {"strides": (1, 1), "padding": (0,) * 4, "output_padding": (0, 0), "dilation": (1, 1)}
    parts |= attributes
    size = [
        (extent - 1) * parts["strides"][n]
        + (kernel[n] - 1) * parts["dilation"][n]
        + 1
        + parts["output_padding"][n]
        - parts["padding"][n]
        - parts["padding"][n + 2]
        for n, extent in enumerate(image)
    ]
    node = Conv2dTranspose(
        name="up",
        inputs=("x",),
        output=Value(name="y", shape=(outputs, *size), shift=0),
        weight=weight,
        bias=rng.integers(-20000, 20000, outputs).astype(np.int32),
        groups=groups,
        rescale=Rescale.shifted(*(9 + n % 3 for n in range(outputs))),
        **parts,
    )
    source = Value(name="x", shape=(channels, *image), shift=0)
    return Graph(name="one", inputs=(source,), nodes=(node,), outputs=("y",))


@st.composite
def transposed(draw):
    rng = np.random.default_rng(draw(seeds))
    pair = st.tuples(st.integers(1, 3), st.integers(1, 3))
    channels, outputs = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    groups = draw(st.sampled_from([n for n in range(1, channels + 1) if channels % n == 0]))
    kernel = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    strides, dilation = draw(pair), draw(pair)
    image = draw(st.tuples(st.integers(1, 7), st.integers(1, 7)))
    reach = [(k - 1) * d for k, d in zip(kernel, dilation, strict=True)]
    return graph_of(
        rng,
        channels,
        groups * -(-outputs // groups),
        image,
        kernel,
        groups=groups,
        strides=strides,
        dilation=dilation,
        padding=tuple(draw(st.integers(0, reach[n % 2] // 2)) for n in range(4)),
        output_padding=tuple(draw(st.integers(0, s - 1)) for s in strides),
    )


@FEW
@given(graph=transposed(), seed=seeds)
def test_transposed_convolutions_are_exact(agrees, graph, seed):
    agrees(graph, seed=seed)


@FEW
@given(graph=transposed(), seed=seeds)
def test_transposed_convolutions_are_exact_with_small_buffers(agrees, graph, seed):
    core = CoreConfig(
        log_batch=1,
        log_block=3,
        log_uop_buff_size=9,
        log_inp_buff_size=10,
        log_wgt_buff_size=12,
        log_acc_buff_size=12,
    )
    agrees(graph, seed=seed, core=core)


def test_a_stride_of_two_multiplies_no_zeros_between_pixels(agrees):
    graph = graph_of(
        np.random.default_rng(0), 32, 32, (8, 8), (4, 4), strides=(2, 2), padding=(1, 1, 1, 1)
    )
    _, run = agrees(graph, scheduler=4)
    taps, pairs, resets = 2 * 2, 2 * 2, 2
    assert run.gemm_uops == 16 * 16 * (taps * pairs + resets)


def test_one_pixel_becomes_an_image_at_one_product_for_each_output(agrees):
    graph = graph_of(np.random.default_rng(0), 100, 40, (1, 1), (4, 4))
    _, run = agrees(graph, scheduler=4)
    pairs, resets = 7 * 3, 3
    assert run.gemm_uops == 16 * (pairs + resets)
