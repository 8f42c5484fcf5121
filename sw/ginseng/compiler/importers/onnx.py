"""ONNX: TVM's importer, with the model's names and without what it cannot mean here."""

import hashlib
from typing import Any, Final

import numpy as np

from ginseng.compiler.errors import CompilerError
from ginseng.compiler.importers.source import Named, Source, first_line, quiet, sample_dims

__all__ = ["from_onnx_model"]

_FLOAT: Final = 1  # onnx.TensorProto.FLOAT
_LINEAR: Final = ("QuantizeLinear", "DequantizeLinear")
_RECURRENT: Final = (
    "recurrent networks and control flow are not supported; unroll them, or do them on the owner's "
    "side"
)
_OPERATOR_FORM: Final = (
    "operators on integers are not supported; quantise the model in QDQ form (QuantFormat.QDQ of "
    "onnxruntime's quantize_static)"
)
#: ONNX operators for which there is no hope: better named before their odd shapes are.
_UNSUPPORTED: Final = {
    **dict.fromkeys(("LSTM", "GRU", "RNN", "If", "Loop", "Scan"), _RECURRENT),
    **dict.fromkeys(
        ("QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger", "DynamicQuantizeLinear"),
        _OPERATOR_FORM,
    ),
}


def from_onnx_model(model: Any, name: str | None) -> Source:
    """Import ONNX; every intermediate is a further result, so that its name survives the passes."""
    import onnx
    from tvm.relax.frontend.onnx import from_onnx

    try:
        onnx.checker.check_model(model)
    except Exception as error:
        raise CompilerError(f"The ONNX model is not valid: {first_line(error)}") from None
    for node in model.graph.node:
        if node.op_type in _UNSUPPORTED:
            raise CompilerError(
                f"Node {node.name or node.output[0]} ({node.op_type}): {_UNSUPPORTED[node.op_type]}"
            )
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type in _LINEAR and node.input[1] in constants:
            scales = onnx.numpy_helper.to_array(constants[node.input[1]])
            if not (np.isfinite(scales) & (scales > 0)).all():
                raise CompilerError(
                    f"Node {node.name or node.output[0]} ({node.op_type}): its scale is "
                    f"{scales.min()}; a scale is positive and finite"
                )
    shapes = {}
    for port in model.graph.input:
        if port.name in constants:
            continue
        kind = port.type.tensor_type
        if kind.elem_type != _FLOAT:
            raise CompilerError(
                f"Input {port.name} is {onnx.TensorProto.DataType.Name(kind.elem_type)}; export "
                "the model in float32"
            )
        dims = [d.dim_value or d.dim_param or None for d in kind.shape.dim]
        shapes[port.name] = sample_dims(port.name, dims)
    named = [
        Named(output, node.name or output, node.op_type)
        for node in model.graph.node
        for output in node.output
        if output
    ]
    results = [port.name for port in model.graph.output]
    extended = onnx.ModelProto()
    extended.CopyFrom(model)
    for item in named:
        extended.graph.output.append(onnx.ValueInfoProto(name=item.value))
    for variant, tags in ((extended, [None] * len(results) + list(named)), (model, None)):
        try:
            with quiet():
                module = from_onnx(variant, shape_dict=shapes, keep_params_in_input=False)
        except Exception as error:
            failure = first_line(error)
            continue
        return Source(
            name=name or model.graph.name or "model",
            sha256=hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest(),
            module=module,
            inputs=tuple(shapes),
            named=tuple(tags or [None] * len(results)),
            outputs=len(results),
        )
    culprits = [n for n in named if n.operator in failure] or named[:1]
    where = f"Node {culprits[0].node} ({culprits[0].operator})" if culprits else "The model"
    raise CompilerError(
        f"{where}: TVM cannot import it: {failure}; leave it out of the model or do it on the "
        "owner's side"
    )
