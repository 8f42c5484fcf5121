"""A TVM user partitions a module, builds it and runs it on a board, from TVM's own interface."""

import re
from pathlib import Path

import numpy as np
import pytest

from ginseng.compiler import CompilerError
from ginseng.compiler.reference import evaluate
from ginseng.isa.config import BusConfig, SystemConfig
from ginseng.target import TargetError, close_regions, partition, register

pytestmark = pytest.mark.tvm
CONFIG = SystemConfig(bus=BusConfig(window_bytes=1 << 24))
OPTIONS = {"ginseng": {"board": "model", "config": CONFIG.canonical.decode()}}
SAMPLES = np.random.default_rng(0).normal(0, 1, (6, 3, 12, 12)).astype(np.float32)


@pytest.fixture(autouse=True)
def registered():
    register()
    yield
    close_regions()


def network():
    """Two regions of convolutions, a sigmoid between them and a softmax after."""
    from tvm import relax

    rng = np.random.default_rng(1)

    def constant(*shape):
        return relax.const(rng.normal(0, 0.2, shape).astype(np.float32))

    op = relax.op
    builder = relax.BlockBuilder()
    image = relax.Var("image", relax.TensorType((1, 3, 12, 12), "float32"))
    with builder.function("main", [image]):
        with builder.dataflow():
            x = builder.emit(op.nn.conv2d(image, constant(16, 3, 3, 3), padding=1))
            x = builder.emit(op.nn.relu(op.add(x, constant(1, 16, 1, 1))))
            y = builder.emit(op.nn.conv2d(x, constant(16, 16, 3, 3), padding=1))
            x = builder.emit(op.sigmoid(op.add(x, y)))
            x = builder.emit(op.nn.conv2d(x, constant(24, 16, 3, 3), strides=2))
            x = builder.emit(op.matmul(op.mean(x, axis=[2, 3]), constant(24, 10)))
            x = builder.emit_output(op.nn.softmax(x))
        builder.emit_func_output(x)
    return builder.get()


def channels_last():
    """What has a pattern, but not with this attribute."""
    from tvm import relax

    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((1, 3, 12, 12), "float32"))
    with builder.function("main", [x]):
        with builder.dataflow():
            y = builder.emit_output(relax.op.nn.max_pool2d(x, (2, 2), layout="NHWC"))
        builder.emit_func_output(y)
    return builder.get()


def build(module):
    import tvm
    from tvm import relax

    machine = relax.VirtualMachine(tvm.compile(module, target="llvm"), tvm.cpu())
    return lambda array: machine["main"](tvm.runtime.tensor(array)).numpy()


def generate(module, options=None):
    from tvm import relax

    return relax.transform.RunCodegen(options or OPTIONS)(module)


def test_regions_run_protected_and_the_rest_on_the_cpu():
    module = network()
    run = build(generate(partition(module, {"image": SAMPLES})))
    plain = build(module)
    for sample in SAMPLES[:2]:
        np.testing.assert_allclose(run(sample[None]), plain(sample[None]), atol=0.03)
    ran = [region for region in close_regions() if region.runs == 2]
    kinds = sorted([node.kind for node in region.compiled.graph.nodes] for region in ran)
    assert kinds == [
        ["conv2d", "conv2d", "add"],
        ["conv2d", "global_average_pool", "dense"],
    ]
    # After closing, the next call opens board and session again.
    np.testing.assert_allclose(run(SAMPLES[2:3]), plain(SAMPLES[2:3]), atol=0.03)


def test_a_region_gives_what_its_graph_computes_to_the_bit():
    from tvm import relax

    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((1, 3, 12, 12), "float32"))
    weight = relax.const(np.random.default_rng(2).normal(0, 1, (5, 3, 3, 3)).astype(np.float32))
    with builder.function("main", [x]):
        with builder.dataflow():
            y = builder.emit_output(relax.op.nn.conv2d(x, weight, padding=1))
        builder.emit_func_output(y)
    run = build(generate(partition(builder.get(), {"x": SAMPLES})))
    ours = run(SAMPLES[:1])
    (region,) = (r for r in close_regions() if r.runs == 1)
    (given,), (result,) = region.compiled.program.inputs, region.compiled.program.outputs
    integers = evaluate(region.compiled.graph, {given.name: given.quantise(SAMPLES[:1])})
    np.testing.assert_array_equal(ours, result.dequantise(integers[result.name]))


def test_the_user_chooses_what_goes_to_the_device():
    module = partition(network(), {"image": SAMPLES}, only=["matmul"])
    regions = [f for _, f in module.functions_items() if f.attrs and "Codegen" in f.attrs]
    assert len(regions) == 1
    assert "matmul" in str(regions[0])


def test_what_cannot_be_partitioned_or_built_is_refused():
    module = network()
    with pytest.raises(TargetError, match=r"nn\.softmax has no pattern"):
        partition(module, only=["nn.softmax"])
    with pytest.raises(TargetError, match="nothing that the core can do"):
        partition(module, only=["nn.max_pool2d"])
    with pytest.raises(TargetError, match="each input of main: image"):
        partition(module, {"x": SAMPLES})
    with pytest.raises(TargetError, match="at least one"):
        partition(module, {"image": SAMPLES[:0]})
    with pytest.raises(TargetError, match="cannot run the samples"):
        partition(module, {"image": SAMPLES[:, :2]})
    with pytest.raises(TargetError, match="is not calibrated"):
        generate(partition(module))
    with pytest.raises(TargetError, match="Option speed"):
        generate(partition(module, {"image": SAMPLES}), {"ginseng": {"speed": "high"}})
    with pytest.raises(CompilerError, match="export it as NCHW"):
        generate(partition(channels_last(), {"x": SAMPLES}))


def test_the_example_of_the_documentation_runs():
    text = (Path(__file__).parents[3] / "docs/tvm.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    scope = {}
    exec(compile(example, "docs/tvm.md", "exec"), scope)
    assert scope["scores"].shape == (1, 10)
    assert abs(scope["scores"].sum() - 1) < 1e-5
    assert [region.runs for region in close_regions()].count(1) >= 1
