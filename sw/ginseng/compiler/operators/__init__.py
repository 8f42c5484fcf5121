"""The operators: one file each, and the one table that lists them.

A file holds everything about its operator: how Relax spells it (``_recognise``), how it is
quantised (a `FloatNode`), what it computes in integers (a `Node` and its docstring), how it is
lowered. To add one, write its file and add its line here.
"""

from typing import Final

from ginseng.compiler.floatgraph import Operator
from ginseng.compiler.operators import (
    add,
    affine,
    argmax,
    average_pool,
    clip,
    concat,
    conv2d,
    conv2d_transpose,
    dense,
    global_average_pool,
    leaky_relu,
    max_pool,
    multiply,
    pad,
    requantise,
    reshape,
    upsample,
)

__all__ = ["OPERATORS"]

#: In the order in which they are asked about a Relax call.
OPERATORS: Final[tuple[Operator, ...]] = (
    conv2d.OPERATOR,
    conv2d_transpose.OPERATOR,
    dense.OPERATOR,
    add.OPERATOR,
    multiply.OPERATOR,
    affine.OPERATOR,
    clip.OPERATOR,
    concat.OPERATOR,
    leaky_relu.OPERATOR,
    max_pool.OPERATOR,
    average_pool.OPERATOR,
    global_average_pool.OPERATOR,
    pad.OPERATOR,
    upsample.OPERATOR,
    reshape.OPERATOR,
    argmax.OPERATOR,
    requantise.OPERATOR,
)
