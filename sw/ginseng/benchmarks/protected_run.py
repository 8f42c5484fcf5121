"""Runs samples through a protected session, and holds the results against NumPy."""

import numpy as np
from numpy.typing import NDArray

from ginseng.compiler import Graph
from ginseng.compiler.reference import evaluate
from ginseng.program import Program
from ginseng.secureos import LocalSession

__all__ = ["run_protected"]


def run_protected(
    session: LocalSession, program: Program, graph: Graph, samples: NDArray[np.floating]
) -> tuple[NDArray[np.float32], bool]:
    """Return what a device made of ``samples``, and whether NumPy says the same.

    Parameters
    ----------
    session : LocalSession
        For ``program``.
    program : Program
        Of one input and one output.
    graph : Graph
        What it computes.
    samples : float array
        Of shape ``(n, *sample shape)``.

    """
    (given,), (result,) = program.inputs, program.outputs
    outputs = session.infer(samples)
    assert isinstance(outputs, np.ndarray)  # one output
    integers = evaluate(graph, {given.name: given.quantise(samples)})
    expected = result.dequantise(integers[result.name].astype(np.int8))
    return outputs, bool(np.array_equal(outputs, expected))
