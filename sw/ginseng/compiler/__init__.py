"""The compiler: ONNX or TVM Relax to one protected program.

`compile_model` imports a float network with TVM, calibrates and quantises it to int8 with
power-of-two scales (`Graph`, exact integer semantics), cuts every layer into tiles by an explicit
cost model, and emits one instruction stream with tokens, micro-ops, packed weights and a tensor
table. Each operator is one file in `ginseng.compiler.operators`. TVM is an extra, imported only
when a model is imported.
"""

from ginseng.compiler.backend.image import PlainImage, PlainPort, lower
from ginseng.compiler.backend.plan import LayerPlan
from ginseng.compiler.compile import CompiledModel, QuantisedModel, compile_model, quantise_model
from ginseng.compiler.errors import CompilerError
from ginseng.compiler.graph import Graph, Node, Value

__all__ = [
    "CompiledModel",
    "CompilerError",
    "Graph",
    "LayerPlan",
    "Node",
    "PlainImage",
    "PlainPort",
    "QuantisedModel",
    "Value",
    "compile_model",
    "lower",
    "quantise_model",
]
