"""The demo's network, through the attested, protected device, against NumPy, bit for bit."""

import numpy as np
import onnx
import pytest

from ginseng.benchmarks.digits import MODEL, load_digits, split
from ginseng.compiler import compile_model
from ginseng.driver import open_board
from ginseng.isa.config import CoreConfig, SystemConfig
from ginseng.secureos import local_session

pytestmark = pytest.mark.tvm


@pytest.mark.parametrize("log_batch", [0, 1])
def test_the_demo_network_computes_its_quantised_graph_bit_for_bit(
    log_batch, evaluate, findings, small_bus
):
    training, held = split(load_digits())
    model, samples = onnx.load_from_string(MODEL.read_bytes()), held.images[:20]
    config = SystemConfig(core=CoreConfig(log_batch=log_batch), bus=small_bus)
    compiled = compile_model(model, {"image": training.images[:64]}, config=config)
    program = compiled.program
    assert findings(program) == []
    (given,), (result,) = program.inputs, program.outputs
    expected = evaluate(compiled.graph, {"image": given.quantise(samples)})["logits"]
    with open_board("model", config=config) as board, local_session(board, program) as session:
        outputs = session.infer(samples)
    np.testing.assert_array_equal(outputs, result.dequantise(expected.astype(np.int8)))
    # A network that saturates or dies would agree with anything.
    assert len(np.unique(expected)) > 8
