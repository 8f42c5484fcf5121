"""Whole networks: ONNX and Relax in, one program out, bit-exact on bare and protected devices."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from ginseng.compiler import compile_model, lower
from ginseng.driver.boards.model import ModelBoard
from ginseng.isa.config import CoreConfig, SystemConfig
from ginseng.isa.insn import Opcode, instruction_set
from ginseng.isa.table import Domain, Permission, Source
from ginseng.program import dumps, loads
from ginseng.secureos import local_session

pytestmark = pytest.mark.tvm


def test_the_device_computes_the_quantised_graph_bit_for_bit(network, agrees):
    graph = network.compiled.graph
    port = network.compiled.program.inputs[0]
    agrees(graph, samples={"x": port.quantise(network.samples[:1])}, scheduler=5)


def test_a_protected_session_returns_the_same_integers(network, evaluate):
    program, graph = network.compiled.program, network.compiled.graph
    session = local_session(ModelBoard(program.config), program)
    try:
        results = session.infer(network.samples[:2])
    finally:
        session.close()
    expected = evaluate(graph, {"x": program.inputs[0].quantise(network.samples[:2])})
    integers = np.ldexp(results, program.outputs[0].shift)
    np.testing.assert_array_equal(integers, expected["logits"])


def test_quantised_results_stay_near_the_float_model(network, evaluate):
    port = network.compiled.program.outputs[0]
    reference = ReferenceEvaluator(network.model).run(None, {"x": network.samples})[0]
    quantised = network.compiled.program.inputs[0].quantise(network.samples)
    got = port.dequantise(evaluate(network.compiled.graph, {"x": quantised})["logits"])
    assert np.corrcoef(reference.ravel(), got.ravel())[0, 1] > 0.97
    assert np.abs(got - reference).max() < 0.25 * np.abs(reference).max()


def test_a_batch_of_two_runs_two_samples_at_once(network, agrees):
    core = CoreConfig(log_batch=1)
    port = network.compiled.program.inputs[0]
    agrees(network.compiled.graph, core=core, samples={"x": port.quantise(network.samples[:2])})


def test_the_same_model_and_data_give_the_same_bytes(network):
    config = network.compiled.program.config
    again = compile_model(network.model, {"x": network.samples}, config=config)
    assert dumps(again.program) == dumps(network.compiled.program)


def test_a_whole_network_is_one_legal_program_with_one_finish(network, findings):
    program = network.compiled.program
    stream = program.contents[program.entry]
    decoded = list(instruction_set(program.config.core).decode_stream(stream))
    assert [i.opcode is Opcode.FINISH for i in decoded] == [False] * (len(decoded) - 1) + [True]
    assert findings(program) == []
    assert loads(dumps(program)) == program


def test_intermediates_lie_in_protected_scratch_and_weights_are_measured(network):
    program = network.compiled.program
    by_domain = {}
    for tensor in program.tensors:
        by_domain.setdefault(tensor.domain, []).append(tensor)
    assert len(by_domain[Domain.IMPORT]) == len(by_domain[Domain.EXPORT]) == 1
    assert len(by_domain[Domain.SCRATCH]) == len(network.compiled.graph.nodes) - 1
    assert all(t.permissions == Permission.R | Permission.W for t in by_domain[Domain.SCRATCH])
    assert all(t.measured and t.slot == 1 for t in by_domain[Domain.WEIGHTS])
    assert all(t.measured and t.source is Source.PLAIN for t in by_domain[Domain.PROGRAM])
    entry = program.by_name[program.entry]
    assert entry.chunk <= 512
    assert entry.permissions is Permission.R | Permission.X


def test_estimates_never_make_protection_a_gain(network):
    layers = network.compiled.program.layers
    assert [layer.name for layer in layers] == [n.name for n in network.compiled.graph.nodes]
    assert sum(x.cycles_plain for x in layers) <= sum(x.cycles_protected for x in layers)
    assert all(layer.cycles_plain > 0 and layer.bytes_plain > 0 for layer in layers)
    steps = sum(layer.macs for layer in layers) // network.compiled.program.config.core.macs
    assert sum(layer.cycles_plain for layer in layers) > steps


def test_batch_normalisation_and_activations_cost_no_layers(network):
    kinds = [node.kind for node in network.compiled.graph.nodes]
    assert "clip" not in kinds
    convolutions = sum(node.op_type == "Conv" for node in network.model.graph.node)
    assert kinds.count("conv2d") == convolutions


def test_a_relax_module_compiles_like_its_onnx_original(network, evaluate):
    from tvm.relax.frontend.onnx import from_onnx

    shape = [1, *network.samples.shape[1:]]
    module = from_onnx(network.model, shape_dict={"x": shape}, keep_params_in_input=False)
    graph = compile_model(module, {"x": network.samples}, name="relax").graph
    quantised = {"x": network.compiled.program.inputs[0].quantise(network.samples[:3])}
    (got,) = evaluate(graph, quantised).values()
    np.testing.assert_array_equal(got, evaluate(network.compiled.graph, quantised)["logits"])


def test_a_path_is_read_and_names_the_program(build, tmp_path):
    build.add("Relu", ["x"], "y")
    path = tmp_path / "tiny.onnx"
    onnx.save(build.model((4, 4, 4), {"y": (4, 4, 4)}), path)
    samples = np.random.default_rng(0).normal(size=(3, 4, 4, 4))
    lines = []
    compiled = compile_model(path, {"x": samples}, progress=lines.append)
    assert compiled.program.name == "tiny"
    assert lines


def test_a_value_can_be_an_output_and_read_on(build, agrees):
    """An export is write-only, so such a value is stored twice."""
    build.add("Relu", [build.conv("x", "c1", 20, 3)], "mid")
    build.add("Add", ["mid", "x2"], "sum")
    build.conv("x", "x2", 20, 3, kernel=1)
    build.nodes.insert(1, build.nodes.pop())
    build.add("Relu", ["x2"], "positive")
    model = build.model((3, 6, 6), {"mid": (20, 6, 6), "sum": (20, 6, 6), "positive": (20, 6, 6)})
    samples = np.random.default_rng(0).normal(size=(4, 3, 6, 6))
    compiled = compile_model(model, {"x": samples})
    assert [n.kind for n in compiled.graph.nodes].count("clip") == 1
    assert {p.name for p in compiled.program.outputs} == {"mid", "sum", "positive"}
    agrees(compiled.graph)


def test_two_inputs_and_clips_with_bounds(build, agrees, evaluate):
    bounds = [build.constant(np.array(v), f"b{n}") for n, v in enumerate((0.0, 1.5))]
    build.add("Clip", [build.conv("x", "c", 8, 3), *bounds], "clipped")
    build.add("Add", ["clipped", "z"], "y")
    model = build.model((3, 5, 5), {"y": (8, 5, 5)})
    info = onnx.helper.make_tensor_value_info("z", onnx.TensorProto.FLOAT, ["n", 8, 5, 5])
    model.graph.input.append(info)
    rng = np.random.default_rng(0)
    data = {"x": rng.normal(size=(9, 3, 5, 5)), "z": 40 * rng.normal(size=(9, 8, 5, 5))}
    compiled = compile_model(model, data)
    agrees(compiled.graph)
    values = compiled.graph.values
    assert values["clipped"].hi == round(1.5 * 2 ** values["clipped"].shift)
    reference = ReferenceEvaluator(model).run(None, {k: v.astype("f4") for k, v in data.items()})[0]
    ports = {p.name: p for p in compiled.program.inputs}
    quantised = {name: ports[name].quantise(array) for name, array in data.items()}
    got = compiled.program.outputs[0].dequantise(evaluate(compiled.graph, quantised)["y"])
    assert np.abs(got - reference).max() <= 2 * 2.0 ** -values["z"].shift


def test_rows_of_the_table_are_shared_when_there_are_few(network, findings, evaluate):
    config = network.compiled.program.config
    few = replace(config, tec=replace(config.tec, table_entries=16))
    program = lower(network.compiled.graph, few)
    assert len(program.tensors) <= 16
    assert findings(program) == []
    session = local_session(ModelBoard(few), program)
    try:
        results = session.infer(network.samples[:1])
    finally:
        session.close()
    expected = evaluate(
        network.compiled.graph, {"x": program.inputs[0].quantise(network.samples[:1])}
    )
    np.testing.assert_array_equal(np.ldexp(results, program.outputs[0].shift), expected["logits"])


def test_tvm_is_only_imported_for_import(network):
    """Lowering a graph needs none of it."""
    import subprocess
    import sys

    code = (
        "import sys, ginseng.compiler, ginseng.compiler.operators;"
        "sys.exit(any(m in sys.modules for m in ('tvm', 'onnx')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert SystemConfig().tec is not None
