"""TVM Relax modules, in memory or as JSON."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ginseng.compiler.errors import CompilerError
from ginseng.compiler.importers.source import (
    Named,
    Source,
    first_line,
    name_results,
    quiet,
    sample_dims,
)

__all__ = ["from_relax_module", "load_relax"]


def load_relax(path: Path) -> Any:
    """Read what `tvm.ir.save_json` wrote.

    Raises
    ------
    CompilerError
        If it cannot be read, holds no module, or is TVMScript: reading that runs code.

    """
    import tvm

    if path.suffix == ".py":
        raise CompilerError(
            f"{path} is TVMScript, which runs as code where it is read; run it yourself and give "
            "its IRModule, or save that with tvm.ir.save_json as .json"
        )
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise CompilerError(f"{path} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise CompilerError(
            f"{path} is no Relax module: it is no text; give ONNX as .onnx"
        ) from None
    try:
        with quiet():
            module = tvm.ir.load_json(text)
    except Exception as error:
        # A broken document is a plain Exception of TVM's.
        raise CompilerError(f"{path} is no Relax module: {first_line(error)}") from None
    if not isinstance(module, tvm.IRModule):
        raise CompilerError(
            f"{path} holds {type(module).__name__}, not a module; save an IRModule that has main"
        )
    return module


def from_relax_module(
    module: Any, name: str | None, names: Mapping[str, Named] | None = None
) -> Source:
    """Take ``main`` of a Relax module; a symbolic batch becomes 1.

    Parameters
    ----------
    module : tvm.IRModule
        With the function ``main``.
    name : str or None
        Of the program.
    names : mapping of str to Named, or None
        What to call variables; by default as the module does.

    Raises
    ------
    CompilerError
        If there is no ``main``, or its inputs are no float images or features.

    """
    import tvm
    from tvm import relax

    digest = hashlib.sha256(tvm.ir.save_json(module).encode()).hexdigest()
    functions = [v.name_hint for v in module.get_global_vars()]
    if "main" not in functions or not isinstance(module["main"], relax.Function):
        raise CompilerError("The module has no Relax function named main; name it so")
    function = module["main"]
    batch = set()
    for parameter in function.params:
        kind = parameter.ty
        if not isinstance(kind, relax.TensorType) or kind.shape is None:
            raise CompilerError(f"Input {parameter.name} has no known shape; annotate it")
        dims = [int(d) if isinstance(d, tvm.tirx.IntImm) else str(d) for d in kind.shape]
        sample_dims(str(parameter.name), dims)
        if str(kind.dtype) != "float32":
            raise CompilerError(f"Input {parameter.name} is {kind.dtype}; make it float32")
        if isinstance(dims[0], str):
            batch.add(dims[0])
    try:
        with quiet():
            if batch:
                bind = relax.transform.BindSymbolicVars(dict.fromkeys(batch, 1), "main")
                module = bind(module)
    except Exception as error:
        raise CompilerError(f"The batch of main cannot be bound: {first_line(error)}") from None
    if names is None:
        names = {}
        for block in getattr(function.body, "blocks", ()):
            for binding in block.bindings:
                operator = getattr(getattr(binding, "value", None), "op", None)
                value = str(binding.var.name)
                words = str(getattr(operator, "name", "")).removeprefix("relax.")
                names[value] = Named(value, value, words)
    try:
        with quiet():
            module, named, outputs = name_results(module, names)
    except CompilerError:
        raise
    except Exception as error:
        raise CompilerError(f"The module is not valid: {first_line(error)}") from None
    return Source(
        name=name or "model",
        sha256=digest,
        module=module,
        inputs=tuple(str(parameter.name) for parameter in function.params),
        named=named,
        outputs=outputs,
    )
