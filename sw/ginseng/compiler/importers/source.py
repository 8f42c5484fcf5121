"""What every importer gives: a Relax module, and the words of the model's own format for it."""

import contextlib
import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ginseng.compiler.errors import CompilerError

__all__ = ["Named", "Source", "first_line", "name_results", "quiet", "sample_dims"]


@dataclass(frozen=True)
class Named:
    """What a source calls one value: by whom it is made, in the source's words."""

    value: str
    node: str
    operator: str


@dataclass(frozen=True, kw_only=True)
class Source:
    """A model as Relax.

    Attributes
    ----------
    name : str
    sha256 : str
        Of the model, hexadecimal.
    module : tvm.IRModule
        ``main`` takes the inputs and nothing else, with a batch of 1.
    inputs : tuple of str
        What the parameters are called.
    named : tuple of Named or None
        What the source calls each result of ``main``, as far as it has names.
    outputs : int
        How many of the results are outputs of the model; the others only carry names.

    """

    name: str
    sha256: str
    module: Any = field(repr=False)
    inputs: tuple[str, ...]
    named: tuple[Named | None, ...] = field(repr=False)
    outputs: int


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep TVM's prints and warnings from the caller's streams."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def first_line(error: BaseException) -> str:
    """Return what an error of a library says, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__


def sample_dims(name: str, dims: Sequence[int | str | None]) -> list[int]:
    """Return the dimensions of an input with a batch of 1.

    Raises
    ------
    CompilerError
        If another dimension is symbolic, the batch is not 1, or the rank is odd.

    """
    if len(dims) not in (2, 4):
        raise CompilerError(
            f"Input {name} has {len(dims)} dimensions {tuple(dims)}; only (batch, channels, "
            "height, width) and (batch, features) are supported"
        )
    fixed = []
    for n, dim in enumerate(dims):
        symbolic = not isinstance(dim, int) or dim < 1
        if n == 0:
            if not symbolic and dim != 1:
                raise CompilerError(
                    f"Input {name} has a batch of {dim}; export the model with batch 1 or a "
                    "symbolic batch"
                )
            fixed.append(1)
        elif symbolic:
            raise CompilerError(
                f"Input {name} has the dynamic dimension {dim or '?'} at position {n}; export the "
                "model with fixed height, width and channels"
            )
        else:
            assert isinstance(dim, int)
            fixed.append(dim)
    return fixed


def name_results(
    module: Any, names: Mapping[str, Named]
) -> tuple[Any, tuple[Named | None, ...], int]:
    """Let ``main`` return every variable of ``names`` too, so that its name survives the passes.

    Returns
    -------
    module : tvm.IRModule
    named : tuple of Named or None
        Of each result.
    outputs : int
        How many results there were before.

    Raises
    ------
    CompilerError
        If ``main`` returns something else than tensors.

    """
    import tvm
    from tvm import relax

    module = relax.transform.ToNonDataflow()(module)
    main = module["main"]
    body = main.body
    blocks = list(body.blocks) if isinstance(body, relax.SeqExpr) else []
    bindings = {b.var: getattr(b, "value", None) for block in blocks for b in block.bindings}
    result = body.body if isinstance(body, relax.SeqExpr) else body
    while isinstance(bindings.get(result), relax.Var | relax.Tuple):
        result = bindings[result]
    results = list(result.fields) if isinstance(result, relax.Tuple) else [result]
    for result in results:
        if not isinstance(result.ty, relax.TensorType):
            raise CompilerError(
                f"main returns {getattr(result, 'name', 'something')}, which is no single tensor; "
                "let it return a tensor or a tuple of tensors"
            )
    extra = [
        v
        for v in bindings
        if str(v.name) in names and isinstance(v.ty, relax.TensorType) and v.ty.shape is not None
    ]
    returned = [*results, *extra]
    extended = relax.Function(
        main.params,
        relax.SeqExpr(blocks, relax.Tuple(returned)),
        relax.TupleType([v.ty for v in returned]),
        main.is_pure,
    )
    functions = dict(module.functions_items())
    functions[module.get_global_var("main")] = extended.with_attr("global_symbol", "main")
    module = relax.transform.Normalize()(tvm.IRModule(functions))
    # Constants are folded in dataflow blocks only.
    module = relax.transform.ConvertToDataflow()(module)
    named = (*(None for _ in results), *(names[str(v.name)] for v in extra))
    return module, named, len(results)
