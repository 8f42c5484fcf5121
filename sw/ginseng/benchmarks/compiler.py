"""What the compiler makes of networks, how long it takes, and whether the device agrees."""

import time
from collections.abc import Callable
from resource import RUSAGE_SELF, getrusage
from typing import Any, Final

import numpy as np
from onnx.reference import ReferenceEvaluator

from ginseng.benchmarks.networks import Network, digits, residual
from ginseng.benchmarks.reference import evaluate
from ginseng.compiler import CompiledModel, compile_model
from ginseng.driver import open_board
from ginseng.isa.config import SystemConfig
from ginseng.program import dumps
from ginseng.secureos import local_session

__all__ = ["measure"]

_NETWORKS: Final = (digits, residual)


def measure(progress: Callable[[str], None] | None = None) -> dict[str, Any]:
    """Compile each network, run its samples protected on the model board, and compare.

    Returns
    -------
    dict
        ``{"networks": [...]}``; ``seconds`` and ``peak_mb`` are of compilation (the peak is the
        process's so far), ``rows`` of the tensor table, ``bytes`` of the file, ``cycles`` and
        ``utilisation`` modelled with protection, ``bit_exact`` against NumPy, accuracies where
        samples have labels.

    """
    return {"networks": [_measure(make(), progress or (lambda _: None)) for make in _NETWORKS]}


def _measure(network: Network, progress: Callable[[str], None]) -> dict[str, Any]:
    config = SystemConfig()
    start = time.perf_counter()
    compiled = compile_model(
        network.model,
        {network.input: network.calibration},
        config=config,
        name=network.name,
        progress=progress,
    )
    seconds = time.perf_counter() - start
    peak = getrusage(RUSAGE_SELF).ru_maxrss / 1024
    progress(f"runs {len(network.samples)} samples of {network.name}")
    outputs, exact = _run(network, compiled, config)
    layers = compiled.program.layers
    cycles = sum(layer.cycles_protected for layer in layers)
    return {
        "name": network.name,
        "seconds": seconds,
        "peak_mb": peak,
        "rows": len(compiled.program.tensors),
        "bytes": len(dumps(compiled.program)),
        "cycles": cycles,
        "utilisation": sum(layer.macs for layer in layers) / (cycles * config.core.macs),
        "overhead": cycles / sum(layer.cycles_plain for layer in layers) - 1,
        "bit_exact": exact,
        "accuracy_float": _accuracy(network, _float(network)),
        "accuracy_device": _accuracy(network, outputs),
    }


def _run(
    network: Network, compiled: CompiledModel, config: SystemConfig
) -> tuple[np.ndarray[Any, Any], bool]:
    """Return what the protected device gave, and whether NumPy says the same."""
    (given,), (result,) = compiled.program.inputs, compiled.program.outputs
    with (
        open_board("model", config=config) as board,
        local_session(board, compiled.program) as session,
    ):
        outputs = session.infer(network.samples)
    assert isinstance(outputs, np.ndarray)  # one output
    integers = evaluate(compiled.graph, {given.name: given.quantise(network.samples)})
    expected = result.dequantise(integers[result.name].astype(np.int8))
    return outputs, bool(np.array_equal(outputs, expected))


def _float(network: Network) -> np.ndarray[Any, Any]:
    """Return the float model's outputs, evaluated by onnx itself."""
    if network.labels is None:
        return np.empty(0)
    evaluator = ReferenceEvaluator(network.model)
    outputs = [
        np.asarray(evaluator.run(["logits"], {network.input: x[None]})) for x in network.samples
    ]
    return np.concatenate([output[0] for output in outputs])


def _accuracy(network: Network, outputs: np.ndarray[Any, Any]) -> float | None:
    if network.labels is None:
        return None
    return float(np.mean(outputs.argmax(1) == network.labels))
