"""What the benchmark of the golden core measures is what it says; how fast is its own business."""

from ginseng.benchmarks.vta_golden import LAYERS, measure


def test_the_benchmark_counts_the_multiply_accumulates_of_every_layer() -> None:
    result = measure()
    assert [layer["name"] for layer in result["layers"]] == [layer.name for layer in LAYERS]
    for layer in result["layers"]:
        assert layer["macs"] == layer["steps"] * 256
        assert layer["macs_per_second"] > 0
