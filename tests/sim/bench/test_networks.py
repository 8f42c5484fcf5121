"""Whole networks as one bare program on the gates, bit for bit what NumPy computes."""

import pytest

from ginseng.bench.memory import REFERENCE
from ginseng.benchmarks.networks import NETWORKS
from ginseng.benchmarks.vta import CONFIG, Gates, run_image
from ginseng.compiler import lower, quantise_model

pytestmark = [pytest.mark.rtl, pytest.mark.tvm, pytest.mark.campaign]


@pytest.mark.parametrize("name", ["digits", "residual", "resnet18"])
def test_a_whole_network_runs_bit_exact_on_the_gates(name):
    network = NETWORKS[name]()
    graph = quantise_model(network.model, {network.input: network.calibration}).graph
    image = lower(graph, CONFIG, protect=False)
    (given,) = image.inputs.values()
    gates = Gates.open(REFERENCE)
    with gates.board:
        cycles, exact = run_image(gates, graph, image, given.port.quantise(network.samples[:1]))
        print(f"{name}: {cycles:,} cycles, {cycles / gates.seconds:,.0f} a second")
        assert exact
        assert gates.board.traffic.most_reads > 0
