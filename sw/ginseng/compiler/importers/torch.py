"""torch.export programs: TVM's importer, with the names of PyTorch's modules."""

from pathlib import Path
from typing import Any

from ginseng.compiler.errors import CompilerError
from ginseng.compiler.importers.relax import from_relax_module
from ginseng.compiler.importers.source import Named, Source, first_line, quiet

__all__ = ["from_exported", "is_exported", "load_exported"]


def is_exported(model: Any) -> bool:
    """Return whether ``model`` is a ``torch.export.ExportedProgram``, without importing PyTorch."""
    kind = type(model)
    return kind.__name__ == "ExportedProgram" and kind.__module__.partition(".")[0] == "torch"


def load_exported(path: Path) -> Any:
    """Read what ``torch.export.save`` wrote.

    Raises
    ------
    CompilerError
        If PyTorch is not installed, or this is no exported program.

    """
    try:
        import torch
    except ModuleNotFoundError as error:
        raise CompilerError(
            f"{path} is a torch.export program, and {error.name} is not installed: pip install "
            "torch, or export the model as ONNX"
        ) from None
    try:
        with quiet(), path.open("rb") as file:
            return torch.export.load(file)
    except OSError as error:
        raise CompilerError(f"{path} cannot be read: {error.strerror or error}") from None
    except Exception as error:
        raise CompilerError(f"{path} is no torch.export program: {first_line(error)}") from None


def from_exported(program: Any, name: str | None) -> Source:
    """Decompose and import an exported program.

    Raises
    ------
    CompilerError
        If TVM cannot import an operator.

    """
    from tvm.relax.frontend.torch.exported_program_translator import ExportedProgramImporter

    importer = ExportedProgramImporter()
    nodes, core = list(program.graph.nodes), program
    try:
        with quiet():
            core = program.run_decompositions()
            nodes = list(core.graph.nodes)
            module = importer.from_exported_program(core, False, True, False, None)
    except Exception as error:
        failure = first_line(error)
        culprits = [node for node in nodes if _operator(node) in failure]
        where = f"Node {_module(culprits[0])} ({_operator(culprits[0])})" if culprits else "A node"
        raise CompilerError(
            f"{where}: TVM cannot import it: {failure}; leave it out of the model or do it on the "
            "owner's side"
        ) from None
    # What leaves the program is called as it was before decomposition.
    ends = zip(core.graph_signature.user_outputs, program.graph_signature.user_outputs, strict=True)
    results = dict(ends)
    names = {}
    for node in nodes:
        variable = str(getattr(importer.env.get(node), "name", ""))
        if node.op == "call_function" and variable:
            # One of several results of an operator is named after the operator.
            origin = node.args[0] if _operator(node) == "getitem" else node
            value = str(results.get(node.name, node.name))
            names[variable] = Named(value, _module(origin), _operator(origin))
    return from_relax_module(module, name, names)


def _operator(node: Any) -> str:
    """Return ``conv2d.default`` of ``torch.ops.aten.conv2d.default``."""
    return str(getattr(node.target, "__name__", node.target))


def _module(node: Any) -> str:
    """Return the path of the module that a node comes from, the node's own name if it has none."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    path, kind = stack[-1] if stack else ("", "")
    kind = kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"
    if not path:
        return str(node.name)
    # PyTorch's own modules are one layer each; in others several nodes have one path.
    return str(path) if kind.startswith("torch.nn.modules.") else f"{path}.{node.name}"
