"""Models as graphs of Relax with a batch of examples, as they are to be trained."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ginseng.compiler.errors import CompilerError
from ginseng.compiler.importers.relax import load_relax
from ginseng.compiler.importers.source import first_line, quiet
from ginseng.compiler.importers.torch import load_exported
from ginseng.myelin.errors import MyelinError

__all__ = ["BATCH", "Graph", "load_graph", "save_parameters"]

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
        Of the module as TVM writes it, hexadecimal; parameters are not in it.
    initial : mapping of str to ndarray
        What the model says that its parameters are at first, by their names in ``main``.

    """

    name: str
    module: Any = field(repr=False)
    examples: tuple[str, ...]
    batch: int
    sha256: str
    initial: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict, repr=False)

    @property
    def function(self) -> Any:
        """The module's ``main``."""
        return self.module["main"]


def load_graph(
    path: Path, *, examples: Sequence[str] = (), batch: int = BATCH, alone: bool = False
) -> Graph:
    """Read a model: ONNX (``.onnx``), torch.export (``.pt2``) or Relax as JSON (``.json``).

    Parameters
    ----------
    path : Path
        The file.
    examples : sequence of str
        The inputs that hold examples; by default, where a model tells inputs from parameters, all.
    batch : int
        Examples, where the model leaves that open; at least 2, since one alone mixes with none.
    alone : bool
        It is not for a check: one example is as good.

    Raises
    ------
    MyelinError
        If it cannot be read or imported, or has no batch of at least 2.

    """
    least = 1 if alone else 2
    if batch < least:
        raise MyelinError(f"A graph is checked with at least 2 examples, not {batch}")
    try:
        import onnx  # noqa: F401
        import tvm
        from tvm import relax
    except ModuleNotFoundError as error:
        raise MyelinError(f"{error.name} is not installed. {_EXTRA}") from None
    load = {".json": _from_relax, ".pt2": _from_torch}.get(path.suffix, _from_onnx)
    try:
        module, inputs, initial = load(path, batch)
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
    if extent is None or extent < least:
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
        initial=initial,
    )


#: The module, its inputs of examples, and its parameters.
_Loaded = tuple[Any, tuple[str, ...], dict[str, npt.NDArray[Any]]]


def _from_relax(path: Path, batch: int) -> _Loaded:
    del batch  # It is what the module says.
    return load_relax(path), (), {}


def _from_torch(path: Path, batch: int) -> _Loaded:
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
    return module, tuple(p.name for p in module["main"].params if p.name in inputs), {}


def _from_onnx(path: Path, batch: int) -> _Loaded:
    import onnx
    from tvm.relax.frontend import detach_params
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
            module = from_onnx(model, shape_dict=shapes, keep_params_in_input=True)
            module, detached = detach_params(module)
    except Exception as error:
        raise MyelinError(f"{path} cannot be imported: {first_line(error)}") from None
    names = [parameter.name for parameter in module["main"].params]
    inputs, parameters = names[: len(shapes)], names[len(shapes) :]
    values = [np.asarray(value.numpy()) for value in detached.get("main", ())]
    return module, tuple(inputs), dict(zip(parameters, values, strict=True))


def _first_extent(parameter: Any) -> int | None:
    values: Any = getattr(getattr(parameter.ty, "shape", None), "values", ())
    try:
        return int(values[0])
    except (IndexError, TypeError):
        return None


def save_parameters(model: Path, parameters: Mapping[str, npt.NDArray[Any]], output: Path) -> None:
    """Write a model of ONNX again, with other parameters.

    Raises
    ------
    MyelinError
        If it is not ONNX, has no such parameter, or cannot be written.

    """
    import onnx

    try:
        proto = onnx.load(model)
    except Exception as error:
        raise MyelinError(f"{model} is no ONNX model: {first_line(error)}") from None
    tensors = {tensor.name: tensor for tensor in proto.graph.initializer}
    for name, value in parameters.items():
        if name not in tensors:
            raise MyelinError(f"{model} has no initializer {name!r}; it has {', '.join(tensors)}")
        tensors[name].CopyFrom(onnx.numpy_helper.from_array(value, name))
    try:
        onnx.save(proto, output)
    except OSError as error:
        raise MyelinError(f"{output} cannot be written: {error.strerror or error}") from None
