"""Flattening, and shaping of inputs: no work, only another name for the same bytes."""

from math import prod

import numpy as np

from ginseng.compiler.floatgraph import Call, FloatNode, Network, Operator

__all__ = ["OPERATOR"]


def _recognise(call: Call, network: Network) -> FloatNode | None:
    """Make the result an alias of the input if both mean the same features in the same order."""
    source = call.args[0]
    if isinstance(source, np.ndarray):
        raise call.refuse("it reshapes a constant that did not fold; repair the model")
    before, after = network.shape(source), call.shape
    if before[0] != after[0] or prod(before) != prod(after):
        raise call.refuse(f"it turns {before} into {after}; only flattening is supported")
    if source in network.inputs and len(before) == 2 and len(after) == 4:
        if not network.is_read_once(source):
            raise call.refuse("it shapes an input that is used otherwise too; make it an image")
        network.images[source] = after[1:]
        network.alias(call.output, source)
        return None
    flat = len(after) == 2 or (len(after) == 4 and after[2:] == (1, 1))
    same = after == before or (len(before) == 2 and flat)
    if not same and not (len(before) == 4 and flat):
        raise call.refuse(
            f"it turns {before} into {after}; only flattening to (1, features) is supported"
        )
    network.alias(call.output, source)
    return network.producer(source)


OPERATOR = Operator(
    "reshape",
    ("relax.reshape", "relax.flatten", "relax.squeeze", "relax.expand_dims"),
    _recognise,
)
