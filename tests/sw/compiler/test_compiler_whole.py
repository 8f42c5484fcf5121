"""Whole networks, from ONNX through the attested, protected device, against NumPy, bit for bit."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from ginseng.cli.demo.digits import MODEL, load_digits, split
from ginseng.compiler import compile_model
from ginseng.driver import open_board
from ginseng.isa.config import CoreConfig, SystemConfig
from ginseng.secureos import local_session

pytestmark = pytest.mark.tvm


def residual_network():
    """Two residual blocks, the second with a strided projection, at sizes that fill no block."""
    rng = np.random.default_rng(5)
    tensors, nodes = {}, []

    def conv(name, x, inputs, outputs, kernel, stride):
        weight = rng.normal(
            0, (inputs * kernel * kernel) ** -0.5, (outputs, inputs, kernel, kernel)
        )
        tensors[f"{name}.w"], tensors[f"{name}.b"] = weight, rng.normal(0, 0.1, outputs)
        nodes.append(
            helper.make_node(
                "Conv",
                [x, f"{name}.w", f"{name}.b"],
                [name],
                name,
                kernel_shape=[kernel, kernel],
                pads=[kernel // 2] * 4,
                strides=[stride, stride],
            )
        )
        return name

    def relu(x):
        nodes.append(helper.make_node("Relu", [x], [f"{x}.relu"], f"{x}.relu"))
        return f"{x}.relu"

    def add(name, a, b):
        nodes.append(helper.make_node("Add", [a, b], [name], name))
        return relu(name)

    x = relu(conv("stem", "image", 3, 20, 3, 1))
    x = add("first", conv("b", relu(conv("a", x, 20, 20, 3, 1)), 20, 20, 3, 1), x)
    x = add("second", conv("c", x, 20, 36, 3, 2), conv("d", x, 20, 36, 1, 2))
    nodes.append(helper.make_node("GlobalAveragePool", [x], ["mean"], "mean"))
    nodes.append(helper.make_node("Flatten", ["mean"], ["flat"], "flat"))
    tensors["f.w"], tensors["f.b"] = rng.normal(0, 0.3, (7, 36)), rng.normal(0, 0.1, 7)
    nodes.append(helper.make_node("Gemm", ["flat", "f.w", "f.b"], ["logits"], "f", transB=1))
    graph = helper.make_graph(
        nodes,
        "residual",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 11, 13])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 7])],
        [numpy_helper.from_array(v.astype(np.float32), k) for k, v in tensors.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def digits():
    training, held = split(load_digits())
    return onnx.load_from_string(MODEL.read_bytes()), training.images[:64], held.images[:20]


def pictures():
    rng = np.random.default_rng(6)
    images = rng.normal(0, 1, (24, 3, 11, 13)).astype(np.float32)
    return residual_network(), images[:16], images[16:]


@pytest.mark.parametrize("network", [digits, pictures], ids=["demo", "residual"])
@pytest.mark.parametrize("log_batch", [0, 1])
def test_a_network_computes_its_quantised_graph_bit_for_bit(
    network, log_batch, evaluate, findings, small_bus
):
    model, calibration, samples = network()
    config = SystemConfig(core=CoreConfig(log_batch=log_batch), bus=small_bus)
    compiled = compile_model(model, {"image": calibration}, config=config)
    program = compiled.program
    assert findings(program) == []
    (given,), (result,) = program.inputs, program.outputs
    expected = evaluate(compiled.graph, {"image": given.quantise(samples)})["logits"]
    with open_board("model", config=config) as board, local_session(board, program) as session:
        outputs = session.infer(samples)
    np.testing.assert_array_equal(outputs, result.dequantise(expected.astype(np.int8)))
    # A network that saturates or dies would agree with anything.
    assert len(np.unique(expected)) > 8
