import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ginseng.program import PortSpec, ProgramError

SHAPES = st.one_of(
    st.tuples(st.integers(1, 40)),
    st.tuples(st.integers(1, 40), st.integers(1, 6), st.integers(1, 6)),
)


@settings(max_examples=80)
@given(
    shape=SHAPES,
    slack=st.integers(0, 3),
    batch=st.sampled_from([1, 2, 4]),
    block=st.sampled_from([4, 16]),
    seed=st.integers(0, 1 << 16),
    data=st.data(),
)
def test_unpacking_undoes_packing(shape, slack, batch, block, seed, data):
    width = shape[2] if len(shape) == 3 else 1
    port = PortSpec(name="x", tensor="x", shape=shape, shift=3, row_elements=width + slack)
    count = data.draw(st.integers(1, batch))
    samples = np.random.default_rng(seed).integers(-128, 128, (count, *shape)).astype(np.int8)
    packed = port.pack(samples, batch=batch, block=block)
    assert len(packed) == port.nbytes(batch=batch, block=block)
    again = port.unpack(packed, batch=batch, block=block)
    assert again.shape == (batch, *shape)
    assert (again[:count] == samples).all()
    assert not again[count:].any()
    assert np.count_nonzero(np.frombuffer(packed, np.int8)) == np.count_nonzero(samples)


def test_channels_pixels_and_samples_stand_where_the_core_reads_them():
    port = PortSpec(name="x", tensor="x", shape=(3, 2, 2), shift=0, row_elements=3)
    samples = np.arange(24, dtype=np.int8).reshape(2, 3, 2, 2)
    packed = np.frombuffer(port.pack(samples, batch=2, block=2), np.int8)
    layout = packed.reshape(2, 2, 3, 2, 2)  # [block][height][row][sample][channel in block]
    for n, c, y, x in np.ndindex(2, 3, 2, 2):
        assert layout[c // 2, y, x, n, c % 2] == samples[n, c, y, x]
    assert not layout[:, :, 2].any(), "between rows there is padding"
    assert not layout[1, :, :, :, 1].any(), "there is no fourth channel"


@pytest.mark.parametrize("shift", [-3, 0, 4])
def test_quantising_rounds_half_to_even_and_saturates(shift):
    port = PortSpec(name="x", tensor="x", shape=(7,), shift=shift, row_elements=1)
    real = np.ldexp(np.array([[0.5, 1.5, -0.5, 200, -200, np.inf, -np.inf]]), -shift)
    assert port.quantise(real).tolist() == [[0, 2, 0, 127, -128, 127, -128]]
    integers = np.array([[-128, -1, 0, 1, 5, 100, 127]], np.int8)
    assert (port.quantise(port.dequantise(integers)) == integers).all()
    assert port.dequantise(integers).dtype == np.float32


def test_what_is_not_a_number_is_refused():
    port = PortSpec(name="pixels", tensor="x", shape=(2,), shift=0, row_elements=1)
    with pytest.raises(ProgramError, match="pixels: a sample is not a number"):
        port.quantise(np.array([[0, np.nan]]))


@pytest.mark.parametrize("shape", [(0, 5), (3, 5), (1, 4), (1, 5, 1), (5,)])
def test_samples_of_another_shape_are_refused(shape):
    port = PortSpec(name="x", tensor="x", shape=(5,), shift=0, row_elements=1)
    with pytest.raises(ProgramError, match="takes 1 to 2 samples"):
        port.pack(np.zeros(shape, np.int8), batch=2, block=4)


def test_bytes_of_another_size_are_refused():
    port = PortSpec(name="x", tensor="x", shape=(5,), shift=0, row_elements=1)
    with pytest.raises(ProgramError, match="no tensor of its shape"):
        port.unpack(bytes(17), batch=1, block=16)


def test_a_scale_and_a_zero_point_are_those_of_onnx():
    """A float32 scale is a mantissa and a shift, exactly; the zero point shifts both ways."""
    scale = np.float32(0.0280651785)
    numerator, denominator = float(scale).as_integer_ratio()
    port = PortSpec(
        name="x",
        tensor="x",
        shape=(5,),
        shift=denominator.bit_length() - 1,
        mantissa=numerator,
        zero=-9,
        row_elements=1,
    )
    integers = np.array([[-128, -10, -9, 0, 127]], np.int8)
    real = (integers.astype(np.float32) + 9) * scale
    np.testing.assert_array_equal(port.dequantise(integers), real)
    np.testing.assert_array_equal(port.quantise(real), integers)
    halves = np.array([[0.5, 1.5, -0.5, 1e9, -1e9]], np.float32) * scale
    assert port.quantise(halves).tolist() == [[-9, -7, -9, 127, -128]]


@pytest.mark.parametrize(("mantissa", "zero"), [(0, 0), (-1, 0), (1 << 24, 0), (1, 128), (1, -129)])
def test_a_scale_that_is_no_float32_and_a_zero_point_that_is_no_int8_are_refused(mantissa, zero):
    with pytest.raises(ProgramError, match="x: its mantissa is 1 to 16777215 and its zero point"):
        PortSpec(
            name="x", tensor="x", shape=(1,), shift=0, mantissa=mantissa, zero=zero, row_elements=1
        )
