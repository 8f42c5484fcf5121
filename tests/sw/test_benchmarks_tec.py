"""What `ginseng bench tec` measures is what it says."""

import json
from dataclasses import replace

import pytest

from ginseng.benchmarks.errors import BenchmarkError
from ginseng.benchmarks.tec import NETWORKS, PROTECTED, measure
from ginseng.benchmarks.tec_plot import overheads
from ginseng.benchmarks.tec_traffic import moved
from ginseng.benchmarks.vta import CONFIG
from ginseng.benchmarks.vta_layers import RESNET18, conv_graph
from ginseng.compiler import lower
from ginseng.isa.insn import INSN_BYTES
from ginseng.isa.transfer import Client


@pytest.fixture(scope="module")
def program():
    layer = next(layer for layer in RESNET18 if layer.name == "C10")
    return lower(conv_graph(layer), PROTECTED)


def test_both_sides_have_the_same_core_and_bus():
    assert replace(PROTECTED, tec=None) == CONFIG
    assert PROTECTED.tec is not None


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"layers": ["C1"]}, r"Layer 'C1' is not known .*C2.*C11"),
        ({"networks": ["resnet18"]}, r"Network 'resnet18' is not known .*mlp"),
    ],
)
def test_what_is_not_known_is_refused_with_what_is(chosen, message):
    with pytest.raises(BenchmarkError, match=message):
        measure(**chosen)


def test_what_a_program_moves_is_what_it_names_in_whole_chunks(program):
    parts = moved(program)
    lengths = {spec.name: spec.length for spec in program.tensors}
    stored = sum(n for name, n in lengths.items() if name.startswith("output"))
    assert parts[Client.STORE].named == parts[Client.STORE].chunks == stored
    assert parts[Client.FETCH].named == len(program.contents[program.entry])
    for part in parts.values():
        assert part.chunks >= part.named > 0


def test_the_compiler_counts_the_same_bytes_and_the_tags(program):
    """Its model has tags per transfer; it counts instructions bare."""
    parts = moved(program)
    instructions = parts[Client.FETCH].chunks
    (layer,) = program.layers
    assert layer.instructions * INSN_BYTES == instructions
    tags = layer.bytes_protected - sum(part.chunks for part in parts.values())
    assert 0 < tags < 0.03 * layer.bytes_protected
    assert tags % 16 == 0


def test_chunks_that_are_longer_than_rows_are_over_fetched(program):
    whole = replace(
        program,
        tensors=tuple(
            replace(spec, chunk=spec.length) if spec.name.startswith("input") else spec
            for spec in program.tensors
        ),
    )
    assert moved(whole)[Client.INP].named == moved(program)[Client.INP].named
    assert moved(whole)[Client.INP].chunks > moved(program)[Client.INP].chunks


def test_a_plot_is_a_png_of_every_row(tmp_path):
    pytest.importorskip("matplotlib")
    with pytest.raises(BenchmarkError, match=r"name it \.png"):
        overheads(tmp_path / "tec.pdf")
    rows = [{"name": "C2", "cycle_ratio": 1.01, "byte_ratio": 1.0}]
    means = {"all": 1.01}
    run = {"memory": "reference", "rows": rows, "cycles": means, "bytes": means}
    path = tmp_path / "tec.png"
    overheads(path)({"config": "x", "bus": "AXI4", "rows": rows, "runs": [run]})
    assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.rtl
@pytest.mark.campaign
def test_protection_costs_what_the_specification_allows():
    document = json.loads(json.dumps(measure(layers=["C10"])))
    assert [run["memory"] for run in document["runs"]] == ["reference", "realistic"]
    for run in document["runs"]:
        (row,) = run["rows"]
        for side in ("plain", "protected"):
            counters = row[side]["counters"]
            assert row[side]["bytes"] == counters["read_bytes"] + counters["write_bytes"]
        clients = row["clients"].values()
        parts = sum(c[what] for c in clients for what in ("named", "over_fetch", "tags"))
        assert parts == row["protected"]["bytes"]
        assert run["cycles"]["worst"] == {"name": "C10", "ratio": row["cycle_ratio"]}
        assert row["cycle_ratio"] < 1.05
        assert 0 < row["lane"]["ghash"] <= 1
    assert set(NETWORKS) == {"mlp", "resnet32", "vgg9"}
