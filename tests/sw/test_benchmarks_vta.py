"""What `ginseng bench vta` measures is what it says."""

import json

import numpy as np
import pytest

from ginseng.bench.memory import REALISTIC, REFERENCE
from ginseng.benchmarks.errors import BenchmarkError
from ginseng.benchmarks.vta import CONFIG, measure
from ginseng.benchmarks.vta_layers import RESNET18, conv_graph
from ginseng.benchmarks.vta_units import conv_unit, units
from ginseng.isa.config import BusProtocol, Memory
from ginseng.isa.insn import INSN_BYTES, Opcode, instruction_set


def test_the_layers_are_those_of_the_published_figure():
    assert [layer.name for layer in RESNET18] == [f"C{n}" for n in range(2, 12)]
    assert sum(layer.count * layer.macs for layer in RESNET18) == 6_623_232 * CONFIG.core.macs


@pytest.mark.parametrize("layer", RESNET18, ids=lambda layer: layer.name)
def test_a_layer_is_the_convolution_that_its_name_says(layer):
    graph = conv_graph(layer)
    assert graph.nodes[0].macs == layer.macs
    assert graph.nodes[0].output.shape == (layer.channels_out, layer.pixels, layer.pixels)
    assert graph.sha256 == conv_graph(layer).sha256


def test_the_memories_are_those_that_are_stated():
    assert (CONFIG.bus.data_bits, CONFIG.bus.protocol) == (64, BusProtocol.AXI4)
    assert CONFIG.bus.protocol.burst_beats == 256
    assert (REFERENCE.serial, REFERENCE.latency, REFERENCE.stall) == (True, (16, 16), 0)
    assert (REALISTIC.serial, REALISTIC.latency, REALISTIC.stall) == (False, (40, 60), 0)
    assert (REALISTIC.reads, REALISTIC.writes, REALISTIC.mix) == (8, 4, False)


@pytest.mark.parametrize("unit", units(), ids=lambda unit: unit.name)
def test_a_unit_under_test_does_its_ideal_and_nothing_else(unit):
    """Every step and every beat of the ideal is in one program, and not in the other."""
    work = []
    for program in (unit.whole, unit.frame):
        words = program.image[program.insn_addr :].tobytes()
        decode = instruction_set(program.config).decode
        steps, nbytes = 0, 0
        for n in range(program.insn_count):
            insn = decode(words[n * INSN_BYTES : (n + 1) * INSN_BYTES])
            if insn.opcode in (Opcode.GEMM, Opcode.ALU):
                steps += (insn["uop_end"] - insn["uop_begin"]) * insn["iter_out"] * insn["iter_in"]
            elif insn.opcode in (Opcode.LOAD, Opcode.STORE) and not insn.is_nop:
                size = program.config.element_bytes(Memory(insn["memory"]))
                nbytes += insn["x_size"] * insn["y_size"] * size
        work.append((steps, nbytes))
    steps, nbytes = np.subtract(*work)
    assert unit.ideal == (steps or nbytes // CONFIG.bus.beat_bytes)
    assert not (steps and nbytes)
    assert unit.whole.golden().any()


def test_the_end_to_end_unit_is_bound_by_the_multipliers():
    layer, ideal = conv_unit(CONFIG)
    assert ideal == layer.macs // CONFIG.core.macs == 65_536


def test_an_unknown_layer_is_refused_with_the_known_ones():
    with pytest.raises(BenchmarkError, match=r"'C1' is not known .*C2.*C11"):
        measure(layers=["C1"])


def test_a_roofline_is_a_png(tmp_path):
    plot = pytest.importorskip("ginseng.benchmarks.vta_plot")
    with pytest.raises(BenchmarkError, match=r"name it \.png"):
        plot.roofline(tmp_path / "roofline.pdf")


@pytest.mark.rtl
@pytest.mark.campaign
def test_the_document_has_what_scripts_depend_on(tmp_path):
    document = json.loads(json.dumps(measure(layers=["C10"])))
    assert {"config", "memory", "layers", "total_cycles", "sim_cycles_per_second", "runs"} <= set(
        document
    )
    assert [run["memory"] for run in document["runs"]] == ["reference", "realistic"]
    (row,) = document["layers"]
    assert document["total_cycles"] == row["count"] * row["cycles"]
    assert row["macs"] == 6_422_528
    assert 0 < row["utilisation"] <= 1
    assert row["bytes"] == row["counters"]["read_bytes"] + row["counters"]["write_bytes"]
    assert len(document["units"]) == 7
