"""Runs the float network on TVM and notes the range of every value."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ginseng.compiler.errors import CompilerError
from ginseng.compiler.importer import Imported
from ginseng.compiler.importers.source import first_line, quiet

__all__ = ["calibrate", "check_samples"]


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


def calibrate(
    imported: Imported,
    samples: Mapping[str, NDArray[np.float32]],
    values: Sequence[str],
    *,
    progress: Callable[[str], None],
) -> dict[str, tuple[float, float]]:
    """Return the least and greatest element of each of ``values`` over all samples.

    Raises
    ------
    CompilerError
        If TVM cannot compile or run the float network.

    """
    ranges = {name: (float(samples[name].min()), float(samples[name].max())) for name in samples}
    wanted = [name for name in values if name not in ranges]
    try:
        with quiet():
            run = _executable(imported, wanted)
            count = len(next(iter(samples.values())))
            for n in range(count):
                results = run([samples[name][n : n + 1] for name in imported.network.inputs])
                for name, array in zip(wanted, results, strict=True):
                    low, high = ranges.get(name, (np.inf, -np.inf))
                    ranges[name] = (
                        _least(low, float(array.min())),
                        -_least(-high, -float(array.max())),
                    )
    except Exception as error:
        raise CompilerError(f"TVM cannot run the float network: {first_line(error)}") from None
    progress(f"calibrated {len(ranges)} values on {count} samples")
    return ranges


def _least(one: float, other: float) -> float:
    """Return the lesser; NaN if either is."""
    return other if other < one or other != other else one


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
