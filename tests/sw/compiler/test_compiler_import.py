"""Relax modules and torch.export programs become programs, with the names of their source."""

import sys

import numpy as np
import pytest

from ginseng.compiler import CompilerError, compile_model, quantise_model
from ginseng.program import dumps

pytestmark = pytest.mark.tvm
SAMPLES = np.random.default_rng(0).normal(0, 1, (6, 3, 8, 8)).astype(np.float32)


def relax_module():
    """Return relu(conv(x) + b) as a Relax module whose variables have names."""
    from tvm import relax

    rng = np.random.default_rng(1)
    weight = relax.const(rng.normal(0, 0.3, (8, 3, 3, 3)).astype(np.float32))
    bias = relax.const(rng.normal(0, 0.3, (1, 8, 1, 1)).astype(np.float32))
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((1, 3, 8, 8), "float32"))
    with builder.function("main", [x]):
        with builder.dataflow():
            stem = builder.emit(relax.op.nn.conv2d(x, weight, padding=1), "stem")
            total = builder.emit(relax.op.add(stem, bias), "biased")
            pooled = builder.emit(relax.op.nn.max_pool2d(total, (2, 2), (2, 2)), "pooled")
            result = builder.emit_output(builder.emit(relax.op.nn.relu(pooled), "active"))
        builder.emit_func_output(result)
    return builder.get()


def test_a_relax_module_keeps_its_names():
    graph = quantise_model(relax_module(), {"x": SAMPLES}).graph
    assert [node.name for node in graph.nodes] == ["stem", "pooled"]
    assert graph.outputs == ("active",)


def test_a_relax_module_in_a_file_is_the_module(tmp_path):
    import tvm

    module = relax_module()
    path = tmp_path / "model.json"
    path.write_text(tvm.ir.save_json(module))
    from_file = compile_model(path, {"x": SAMPLES}, name="model")
    assert from_file.program.name == "model"
    assert from_file.graph.sha256 == compile_model(module, {"x": SAMPLES}).graph.sha256
    again = compile_model(path, {"x": SAMPLES}, name="model")
    assert dumps(from_file.program) == dumps(again.program)


def test_files_that_hold_no_relax_module_are_refused(tmp_path):
    import tvm

    for name, content in [
        ("text.json", b"no json"),
        ("bytes.json", b"\xff\x00\xfe"),
    ]:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CompilerError, match="is no Relax module") as refused:
            compile_model(tmp_path / name, {})
        assert "\n" not in str(refused.value)
    other = tmp_path / "other.json"
    other.write_text(tvm.ir.save_json(tvm.runtime.convert([1, 2])))
    with pytest.raises(CompilerError, match="not a module"):
        compile_model(other, {})
    with pytest.raises(CompilerError, match="cannot be read"):
        compile_model(tmp_path / "absent.json", {})


def test_a_script_is_refused_before_anything_of_it_runs(tmp_path):
    path, ran = tmp_path / "script.py", tmp_path / "ran"
    path.write_text(f"__import__('pathlib').Path({str(ran)!r}).touch()")
    with pytest.raises(CompilerError, match="runs as code where it is read"):
        compile_model(path, {})
    assert not ran.exists()


def test_exported_programs_need_pytorch_and_say_so(tmp_path, monkeypatch):
    path = tmp_path / "net.pt2"
    path.write_bytes(b"")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(CompilerError, match="pip install torch, or export the model as ONNX"):
        compile_model(path, {})
