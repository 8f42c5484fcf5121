"""The golden core is fast enough to run whole networks."""

from ginseng.benchmarks.vta_golden import LAYERS, measure


def test_gemm_of_every_layer_does_at_least_100_million_multiply_accumulates_a_second() -> None:
    result = measure()
    assert [layer["name"] for layer in result["layers"]] == [layer.name for layer in LAYERS]
    for layer in result["layers"]:
        assert layer["macs"] == layer["steps"] * 256
        assert layer["macs_per_second"] > 100e6
