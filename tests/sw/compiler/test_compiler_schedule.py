"""The schedule: what the model assumes, what the search finds, what the cache keeps."""

import json
from dataclasses import replace

import numpy as np
import pytest

from ginseng.compiler import CompilerError, Graph, Value, lower
from ginseng.compiler.backend.cost import MEMORIES
from ginseng.compiler.backend.image import program
from ginseng.compiler.backend.tuned import Tuned, recall, remember
from ginseng.compiler.operators.conv2d import Conv2d
from ginseng.compiler.rescale import Rescale
from ginseng.isa.config import BusConfig, BusProtocol, SystemConfig

BARE = SystemConfig(tec=None, bus=BusConfig(protocol=BusProtocol.AXI4, window_bytes=1 << 24))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Give every test a cache of its own, and return where it is."""
    monkeypatch.setenv("GINSENG_CACHE", str(tmp_path))
    return tmp_path / "tilings"


def convolution(*, channels=32, outputs=48, pixels=12, kernel=3, stride=1, seed=0):
    rng = np.random.default_rng(seed)
    side = (pixels + 2 * (kernel // 2) - kernel) // stride + 1
    return Conv2d(
        name="conv",
        inputs=("x",),
        output=Value(name="y", shape=(outputs, side, side), shift=0, lo=0),
        weight=rng.integers(-128, 128, (outputs, channels, kernel, kernel)).astype(np.int8),
        bias=rng.integers(-20000, 20000, outputs).astype(np.int32),
        strides=(stride, stride),
        padding=(kernel // 2,) * 4,
        rescale=Rescale.shifted(12),
    )


def single(node, pixels=12):
    image = Value(name="x", shape=(node.weight.shape[1], pixels, pixels), shift=0)
    return Graph(name="one", inputs=(image,), nodes=(node,), outputs=("y",))


def entries(cache):
    return sorted(cache.glob("*.json"))


def test_the_model_assumes_the_memories_of_the_bench():
    memory = pytest.importorskip("ginseng.bench.memory")
    for simulated in (memory.REFERENCE, memory.REALISTIC):
        timing = MEMORIES[simulated.name]
        assert timing.latency == sum(simulated.latency) // 2
        assert timing.serial == simulated.serial
        assert (simulated.reads, simulated.writes) == (8, 4)
    assert (BARE.bus.outstanding_reads, BARE.bus.outstanding_writes) == (8, 4)


def test_an_unknown_memory_is_refused_by_name():
    with pytest.raises(CompilerError, match="reference or realistic, not 'fast'"):
        lower(single(convolution()), BARE, protect=False, memory="fast")


def test_the_cache_changes_no_byte(cache):
    graph = single(convolution())
    cold = lower(graph, BARE, protect=False)
    kept = entries(cache)
    assert kept
    assert lower(graph, BARE, protect=False).dram == cold.dram
    assert entries(cache) == kept
    for path in kept:
        path.unlink()
    assert lower(graph, BARE, protect=False).dram == cold.dram


def test_a_damaged_entry_counts_as_missing(cache):
    graph = single(convolution())
    whole = lower(graph, BARE, protect=False)
    (path,) = entries(cache)
    text = path.read_text()
    tree = json.loads(text)
    tree["tuned"]["best"]["rows"] += 1
    for damaged in ("", text[: len(text) // 2], "[]", '{"sha256": 1}', json.dumps(tree)):
        path.write_text(damaged)
        assert lower(graph, BARE, protect=False).dram == whole.dram
        assert path.read_text() == text


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path, monkeypatch):
    graph = single(convolution())
    whole = lower(graph, BARE, protect=False)
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("GINSENG_CACHE", str(blocked))
    assert lower(graph, BARE, protect=False).dram == whole.dram


def test_what_is_remembered_is_recalled_under_its_key_only(cache):
    _, plans = program(single(convolution()), SystemConfig(), model_sha256="0" * 64)
    tuned = plans[0].tuned
    assert isinstance(tuned, Tuned)
    remember("here", tuned)
    assert recall("here") == tuned
    assert recall("there") is None
    assert not list(cache.glob("*.part"))


def test_another_memory_and_another_core_are_tuned_on_their_own(cache):
    graph = single(convolution())
    lower(graph, BARE, protect=False)
    lower(graph, BARE, protect=False, memory="realistic")
    lower(graph, replace(BARE, core=replace(BARE.core, log_inp_buff_size=14)), protect=False)
    assert len(entries(cache)) == 3


def test_a_plan_says_what_each_layer_does_and_why():
    node = convolution()
    graph = single(node)
    made, (plan,) = program(graph, SystemConfig(), model_sha256="0" * 64)
    assert plan.cycles == made.layers[0].cycles_protected
    assert plan.nbytes == made.layers[0].bytes_protected
    steps = node.macs // made.config.core.macs
    assert steps * 0.9 <= plan.gemm <= steps
    # Bias, shift and two clips of every result.
    assert plan.alu >= 4 * 3 * 12 * 12
    assert plan.exposed == plan.cycles - max(plan.gemm, plan.alu, plan.bus)
    assert {"STORE", "WGT", "INP", "ACC", "UOP"} == set(plan.transfers)
    assert plan.chunk == made.by_name["output.y"].chunk
    assert plan.tuned.second is not None
    assert plan.reason
    json.dumps(plan.document())


def test_compute_hides_almost_everything_where_there_is_enough_of_it():
    """The model's promise on a layer of many steps; `ginseng bench vta` holds it against gates."""
    node = convolution(channels=64, outputs=128, pixels=28)
    image = lower(single(node, 28), BARE, protect=False)
    steps = node.macs // BARE.core.macs
    assert image.layers[0].cycles_plain < 1.03 * steps
    serial = lower(single(node, 28), BARE, protect=False, memory="realistic")
    assert serial.layers[0].cycles_plain < 1.03 * steps


def chain(count):
    """Convolutions without padding: every image is smaller than the one before."""
    values = [Value(name="x", shape=(16, 2 * count + 2, 2 * count + 2), shift=0)]
    nodes = []
    rng = np.random.default_rng(1)
    for n in range(count):
        side = values[-1].shape[1] - 2
        values.append(Value(name=f"v{n}", shape=(16, side, side), shift=0))
        nodes.append(
            Conv2d(
                name=f"c{n}",
                inputs=(values[-2].name,),
                output=values[-1],
                weight=rng.integers(-128, 128, (16, 16, 3, 3)).astype(np.int8),
                bias=rng.integers(-1000, 1000, 16, np.int32),
                rescale=Rescale.shifted(10),
            )
        )
    return Graph(name="chain", inputs=(values[0],), nodes=tuple(nodes), outputs=(values[-1].name,))


def test_a_deep_network_fits_a_small_table_and_the_error_names_both_numbers(findings):
    graph = chain(6)
    config = SystemConfig()
    assert len(lower(graph, config).tensors) > 8
    small = replace(config, tec=replace(config.tec, table_entries=8))
    program = lower(graph, small)
    assert len(program.tensors) == 8
    assert findings(program) == []
    tiny = replace(config, tec=replace(config.tec, table_entries=4))
    with pytest.raises(CompilerError, match=r"needs 7 rows of the tensor table, the build has 4"):
        lower(graph, tiny)
