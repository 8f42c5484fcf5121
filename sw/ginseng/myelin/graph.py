"""Models as graphs of Relax with a batch of examples, as they are to be trained."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ginseng.compiler.errors import CompilerError
from ginseng.compiler.importers.relax import load_relax
from ginseng.compiler.importers.source import first_line, quiet
from ginseng.compiler.importers.torch import load_exported
from ginseng.myelin.errors import MyelinError

__all__ = ["BATCH", "Graph", "load_graph"]

#: Examples of a graph whose model does not say how many: prime, so that no other extent is it.
BATCH: Final = 7
_EXTRA: Final = "Myelin needs TVM and ONNX: pip install 'ginseng[myelin]'"


@dataclass(frozen=True, kw_only=True)
class Graph:
    """A model, from examples and parameters to one result for each example.

    Attributes
    ----------
    name : str
        Of the model.
    module : tvm.IRModule
        With ``main``, and the loop nests that it calls.
    examples : tuple of str
        The parameters of ``main`` that hold one example per slice of their first axis.
    batch : int
        Examples of the graph: the extent of that axis.
    sha256 : str
        Of the module as TVM writes it, hexadecimal.

    """

    name: str
    module: Any = field(repr=False)
    examples: tuple[str, ...]
    batch: int
    sha256: str

    @property
    def function(self) -> Any:
        """The module's ``main``."""
        return self.module["main"]


def load_graph(path: Path, *, examples: Sequence[str] = (), batch: int = BATCH) -> Graph:
    """Read a model: ONNX (``.onnx``), torch.export (``.pt2``) or Relax as JSON (``.json``).

    Parameters
    ----------
    path : Path
        The file.
    examples : sequence of str
        The inputs that hold examples; by default, where a model tells inputs from parameters, all.
    batch : int
        Examples, where the model leaves that open; at least 2, since one alone mixes with none.

    Raises
    ------
    MyelinError
        If it cannot be read or imported, or has no batch of at least 2.

    """
    if batch < 2:
        raise MyelinError(f"A graph is checked with at least 2 examples, not {batch}")
    try:
        import onnx  # noqa: F401
        import tvm
        from tvm import relax
    except ModuleNotFoundError as error:
        raise MyelinError(f"{error.name} is not installed. {_EXTRA}") from None
    load = {".json": _from_relax, ".pt2": _from_torch}.get(path.suffix, _from_onnx)
    try:
        module, inputs = load(path, batch)
    except CompilerError as error:
        raise MyelinError(str(error)) from None
    if "main" not in {v.name_hint for v in module.get_global_vars()} or not isinstance(
        module["main"], relax.Function
    ):
        raise MyelinError(f"{path} has no Relax function named main; name it so")
    function = module["main"]
    parameters = {parameter.name: parameter for parameter in function.params}
    chosen = tuple(examples) or inputs
    if not chosen:
        raise MyelinError(
            f"{path} does not say which inputs hold examples; name them of "
            f"{', '.join(parameters)} with --examples"
        )
    for name in chosen:
        if name not in parameters:
            raise MyelinError(
                f"{path} has no input {name!r} of examples; it has {', '.join(parameters)}"
            )
    extents = {name: _first_extent(parameters[name]) for name in chosen}
    if len(set(extents.values())) != 1:
        said = ", ".join(f"{name} {extent}" for name, extent in extents.items())
        raise MyelinError(f"Inputs of examples have one first extent, the batch, not {said}")
    (extent,) = set(extents.values())
    if extent is None or extent < 2:
        raise MyelinError(
            f"{path} has a batch of {extent or 'unknown extent'}; export it with an open one, or "
            f"with at least 2 examples"
        )
    return Graph(
        name=path.stem,
        module=module,
        examples=chosen,
        batch=extent,
        sha256=hashlib.sha256(tvm.ir.save_json(module).encode()).hexdigest(),
    )


def _from_relax(path: Path, batch: int) -> tuple[Any, tuple[str, ...]]:
    del batch  # It is what the module says.
    return load_relax(path), ()


def _from_torch(path: Path, batch: int) -> tuple[Any, tuple[str, ...]]:
    del batch
    from tvm.relax.frontend.torch import from_exported_program

    program = load_exported(path)
    try:
        with quiet():
            module = from_exported_program(
                program, keep_params_as_input=True, unwrap_unit_return_tuple=True
            )
    except Exception as error:
        raise MyelinError(f"{path} cannot be imported: {first_line(error)}") from None
    inputs = set(program.graph_signature.user_inputs)
    return module, tuple(p.name for p in module["main"].params if p.name in inputs)


def _from_onnx(path: Path, batch: int) -> tuple[Any, tuple[str, ...]]:
    import onnx
    from tvm.relax.frontend.onnx import from_onnx

    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
    except OSError as error:
        raise MyelinError(f"{path} cannot be read: {error.strerror or error}") from None
    except Exception as error:
        raise MyelinError(f"{path} is no ONNX model: {first_line(error)}") from None
    constants = {tensor.name for tensor in model.graph.initializer}
    shapes: dict[str, list[int]] = {}
    for port in model.graph.input:
        if port.name in constants:
            continue
        extents = port.type.tensor_type.shape.dim
        shapes[port.name] = [
            d.dim_value if d.HasField("dim_value") else (batch if n == 0 else 0)
            for n, d in enumerate(extents)
        ]
        if 0 in shapes[port.name]:
            raise MyelinError(
                f"Input {port.name} of {path} has an open extent behind the batch; only the first "
                f"may be open"
            )
    try:
        with quiet():
            module = from_onnx(model, shape_dict=shapes)
    except Exception as error:
        raise MyelinError(f"{path} cannot be imported: {first_line(error)}") from None
    names = [parameter.name for parameter in module["main"].params]
    return module, tuple(names[: len(shapes)])


def _first_extent(parameter: Any) -> int | None:
    values: Any = getattr(getattr(parameter.ty, "shape", None), "values", ())
    try:
        return int(values[0])
    except (IndexError, TypeError):
        return None
