"""Runs the float network on TVM and notes what every value looks like."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ginseng.compiler.errors import CompilerError
from ginseng.compiler.histogram import Histogram
from ginseng.compiler.importer import Imported
from ginseng.compiler.importers.source import first_line, quiet

__all__ = ["FloatRun", "ProgressBar", "calibrate", "check_samples", "each_sample"]

#: Opens a progress bar with a label and a number of steps; its value is called once per step.
ProgressBar = Callable[[str, int], AbstractContextManager[Callable[[], object]]]


def check_samples(
    inputs: Mapping[str, tuple[int, ...]], calibration: Mapping[str, NDArray[Any]]
) -> dict[str, NDArray[np.float32]]:
    """Return the calibration arrays as float32.

    Raises
    ------
    CompilerError
        If an input has no array, an array no input, a shape is wrong or a number not finite.

    """
    for name in calibration:
        if name not in inputs:
            raise CompilerError(
                f"Calibration array {name} belongs to no input of the model "
                f"(inputs: {', '.join(inputs)})"
            )
    samples = {}
    for name, shape in inputs.items():
        if name not in calibration:
            raise CompilerError(
                f"Input {name} has no calibration data; give an array of shape (n, "
                f"{', '.join(map(str, shape[1:]))}) under this name"
            )
        array = np.asarray(calibration[name])
        if array.shape[1:] != shape[1:] or not len(array) or array.dtype.kind not in "fiub":
            raise CompilerError(
                f"Calibration data of input {name} are {array.dtype} of shape {array.shape}, not "
                f"numbers of shape (n, {', '.join(map(str, shape[1:]))}) with n at least 1"
            )
        if not np.isfinite(array).all():
            raise CompilerError(
                f"Calibration data of input {name} are not finite (NaN or infinity); clean them"
            )
        samples[name] = array.astype(np.float32)
    counts = {name: len(array) for name, array in samples.items()}
    if len(set(counts.values())) != 1:
        raise CompilerError(f"Calibration arrays have different numbers of samples: {counts}")
    return samples


class FloatRun:
    """The float network on TVM (CPU), with every value among its results.

    Parameters
    ----------
    imported : Imported
    values : sequence of str
        Which values to return.

    Raises
    ------
    CompilerError
        If TVM cannot compile it.

    """

    def __init__(self, imported: Imported, values: Sequence[str]) -> None:
        self._inputs: Final = tuple(imported.inputs)
        # What the owner does to an input comes before what the network sees of it.
        steps, self._packings = imported.network.steps, imported.network.packings
        given = {name for name in self._inputs if name not in steps}
        wanted = dict.fromkeys((*self._inputs, *values))
        self._wanted: Final = [value for value in wanted if value not in given]
        try:
            with quiet():
                self._run: Final = _executable(imported, self._wanted)
        except Exception as error:
            raise _failed(error) from None

    def __call__(self, sample: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        """Return inputs and values of one sample, ``(1, *shape)``, by name.

        Raises
        ------
        CompilerError
            If TVM cannot run it.

        """
        given = [sample[name] for name in self._inputs]
        try:
            with quiet():
                results = self._run(given)
        except Exception as error:
            raise _failed(error) from None
        names = (*self._inputs, *self._wanted)
        seen = dict(zip(names, (*given, *results), strict=True))
        return seen | {name: step(seen[name]) for name, step in self._packings.items()}


def _failed(error: Exception) -> CompilerError:
    return CompilerError(f"TVM cannot run the float network: {first_line(error)}")


def each_sample(
    samples: Mapping[str, NDArray[np.float32]], label: str, bar: ProgressBar | None
) -> Iterator[dict[str, NDArray[np.float32]]]:
    """Yield one sample after the other, each ``(1, *shape)``, and move the bar."""
    count = len(next(iter(samples.values())))
    with nullcontext() if bar is None else bar(label, count) as step:
        for n in range(count):
            yield {name: array[n : n + 1] for name, array in samples.items()}
            if step is not None:
                step()


def calibrate(
    run: FloatRun,
    samples: Mapping[str, NDArray[np.float32]],
    *,
    bar: ProgressBar | None = None,
) -> dict[str, Histogram]:
    """Return what is seen of each value over all samples, in memory of a fixed size.

    Raises
    ------
    CompilerError
        If TVM cannot run the float network.

    """
    seen: dict[str, Histogram] = {}
    for sample in each_sample(samples, "calibrating", bar):
        for name, array in run(sample).items():
            seen.setdefault(name, Histogram()).add(array)
    return seen


def _executable(
    imported: Imported, values: Sequence[str]
) -> Callable[[list[NDArray[np.float32]]], list[NDArray[np.float32]]]:
    """Compile ``main`` for the CPU with ``values`` as its results."""
    import tvm
    from tvm import relax

    main = imported.module["main"]
    variables = [imported.variables[name] for name in values]
    body = relax.SeqExpr(main.body.blocks, relax.Tuple(variables))
    kind = relax.TupleType([v.ty for v in variables])
    function = relax.Function(main.params, body, kind).with_attr("global_symbol", "main")
    functions = dict(imported.module.functions_items())
    functions[imported.module.get_global_var("main")] = function
    module = relax.transform.Normalize()(tvm.IRModule(functions))
    module = relax.transform.DeadCodeElimination(["main"])(module)
    machine = relax.VirtualMachine(tvm.compile(module, target="llvm"), tvm.cpu())

    def run(arrays: list[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        results = machine["main"](*(tvm.runtime.tensor(np.ascontiguousarray(a)) for a in arrays))
        return [np.asarray(r.numpy()) for r in results]

    return run
