"""The accuracy report: how far each value of the integer graph is from the float network."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import log10
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ginseng.compiler.calibration import FloatRun, ProgressBar, each_sample
from ginseng.compiler.graph import INT8, Graph, Node, Value
from ginseng.compiler.reference import evaluate, evaluate_node

__all__ = ["AccuracyReport", "LayerAccuracy", "accuracy_report"]


@dataclass(frozen=True, kw_only=True)
class LayerAccuracy:
    """One layer's result, held against the float network over all samples.

    Attributes
    ----------
    name, kind : str
        Of the node.
    value : str
        What it makes.
    shift : int
        Of the value's scale.
    snr_db : float or None
        Signal to noise: power of the float value over power of the difference, with the noise of
        every layer before; None where there is no difference.
    own_snr_db : float or None
        The same if its inputs were right but for rounding: what this layer costs by itself.
    effective_bits : float or None
        ``(snr_db - 1.76) / 6.02``: bits of an ideal converter with that ratio.
    saturated, elements : int
        Float elements beyond the ends of int8, of how many.

    """

    name: str
    kind: str
    value: str
    shift: int
    snr_db: float | None
    own_snr_db: float | None
    effective_bits: float | None
    saturated: int
    elements: int


@dataclass(frozen=True, kw_only=True)
class AccuracyReport:
    """Every layer in order.

    Attributes
    ----------
    layers : tuple of LayerAccuracy
    samples : int
        How many it was measured on.

    """

    layers: tuple[LayerAccuracy, ...]
    samples: int

    def worst(self, count: int = 3) -> tuple[LayerAccuracy, ...]:
        """Return the layers that cost most by themselves, the worst first."""
        noisy = [layer for layer in self.layers if layer.own_snr_db is not None]
        return tuple(sorted(noisy, key=lambda layer: layer.own_snr_db or 0.0)[:count])

    def document(self) -> dict[str, Any]:
        """Return the report in plain Python, for JSON."""
        return {
            "samples": self.samples,
            "layers": [asdict(layer) for layer in self.layers],
            "worst": [layer.name for layer in self.worst()],
        }


class _Powers:
    """Sums of squares of one layer's signal and differences."""

    def __init__(self) -> None:
        self.signal = self.noise = self.own = 0.0
        self.saturated = self.elements = 0

    def add(self, value: Value, exact: Any, got: Any, alone: Any) -> None:
        """Count one sample: the float value, the graph's integers, and the node's own."""
        limits = np.ldexp(np.array(INT8) + np.array([-0.5, 0.5]), -value.shift)
        self.signal += float(np.square(exact).sum())
        self.noise += float(np.square(np.ldexp(got, -value.shift) - exact).sum())
        self.own += float(np.square(np.ldexp(alone, -value.shift) - exact).sum())
        self.saturated += int(((exact < limits[0]) | (exact > limits[1])).sum())
        self.elements += exact.size

    def result(self, node: Node) -> LayerAccuracy:
        """Return the sums as ratios."""
        total = _decibels(self.signal, self.noise)
        return LayerAccuracy(
            name=node.name,
            kind=node.kind,
            value=node.output.name,
            shift=node.output.shift,
            snr_db=total,
            own_snr_db=_decibels(self.signal, self.own),
            effective_bits=None if total is None else (total - 1.76) / 6.02,
            saturated=self.saturated,
            elements=self.elements,
        )


#: A signal of nothing but zeros has this ratio, rather than minus infinity.
_SILENCE: Final = 0.0


def _decibels(signal: float, noise: float) -> float | None:
    if noise == 0:
        return None
    return 10 * log10(signal / noise) if signal else _SILENCE


def _integers(value: Value, exact: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the nearest integers of a float value."""
    rounded = np.rint(np.ldexp(exact, value.shift))
    return rounded.clip(value.lo, value.hi).astype(np.int64)


def accuracy_report(
    graph: Graph,
    run: FloatRun,
    samples: Mapping[str, NDArray[np.float32]],
    *,
    bar: ProgressBar | None = None,
) -> AccuracyReport:
    """Hold ``graph`` against the float network, sample by sample.

    Parameters
    ----------
    graph : Graph
        What the float network became.
    run : FloatRun
        Returns every value of ``graph``.
    samples : mapping of str to array
        ``(n, *shape)`` floats for each input: those of calibration, or better others.
    bar : callable or None
        Opens a progress bar.

    """
    powers = {node.name: _Powers() for node in graph.nodes}
    for sample in each_sample(samples, "comparing with float", bar):
        exact = {
            name: array.reshape(1, *graph.values[name].shape).astype(np.float64)
            for name, array in run(sample).items()
        }
        near = {name: _integers(graph.values[name], array) for name, array in exact.items()}
        got = evaluate(graph, {v.name: near[v.name] for v in graph.inputs}, every_value=True)
        for node in (node for node in graph.nodes if node.scaled):
            value = node.output
            alone = evaluate_node(node, graph.sources(node), [near[name] for name in node.inputs])
            powers[node.name].add(value, exact[value.name], got[value.name], alone)
    return AccuracyReport(
        layers=tuple(powers[node.name].result(node) for node in graph.nodes),
        samples=len(next(iter(samples.values()))),
    )
