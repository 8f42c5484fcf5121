"""Marks the regions of a Relax module that Ginseng runs, and calibrates them."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ginseng.compiler.importers.source import first_line, quiet
from ginseng.target.errors import TargetError
from ginseng.target.patterns import PREFIX, operators

__all__ = ["CALIBRATION", "partition"]

#: Attribute of a region: what calibration saw of each of its inputs.
CALIBRATION = "ginseng.calibration"


def partition(
    module: Any,
    samples: Mapping[str, NDArray[Any]] | None = None,
    *,
    only: Sequence[str] | None = None,
) -> Any:
    """Return ``module`` with every region that the core can do as a function of its own.

    Parameters
    ----------
    module : tvm.IRModule
        With ``main``; batch 1.
    samples : mapping of str to array, or None
        Calibration data of the inputs of ``main``, ``(n, *sample shape)``: they are run on the CPU
        and what reaches each region is kept with it. Without them regions are found but cannot be
        compiled.
    only : sequence of str or None
        Which operators may go to the device, ``"nn.conv2d"``; by default all that it can do. The
        others stay on the CPU, **outside of the protection**.

    Returns
    -------
    tvm.IRModule
        For ``relax.transform.RunCodegen`` and ``tvm.compile``.

    Raises
    ------
    TargetError
        If there is nothing for the device, an operator is not known, or the samples do not fit.

    """
    import tvm
    from tvm.relax import transform
    from tvm.relax.backend.pattern_registry import get_pattern

    known = operators()
    chosen = known if only is None else tuple(only)
    if unknown := [name for name in chosen if name not in known]:
        raise TargetError(
            f"Operator {unknown[0]} has no pattern for Ginseng; choose among {', '.join(known)}"
        )
    patterns = [get_pattern(f"{PREFIX}.{name}") for name in chosen]
    if None in patterns:
        raise TargetError("Ginseng's patterns are not registered; call ginseng.target.register()")
    passes = [
        transform.DecomposeOpsForInference(),
        transform.CanonicalizeBindings(),
        transform.FoldConstant(),
        transform.FuseOpsByPattern(patterns, bind_constants=True),
        transform.MergeCompositeFunctions(),
    ]
    with quiet():
        module = tvm.transform.Sequential(passes)(module)
    regions = {
        variable: function
        for variable, function in module.functions_items()
        if function.attrs and function.attrs.get("Codegen") == PREFIX
    }
    if not regions:
        raise TargetError(
            "The module has nothing that the core can do; give float32 images or features of "
            f"batch 1, and operators among {', '.join(chosen)}"
        )
    seen = {} if samples is None else _region_inputs(module, list(regions), samples)
    functions = dict(module.functions_items())
    for variable, function in regions.items():
        digest = hashlib.sha256(tvm.ir.save_json(function).encode())
        if samples is not None:
            inputs = dict(zip((str(p.name) for p in function.params), seen[variable], strict=True))
            for name, array in inputs.items():
                digest.update(name.encode() + array.tobytes())
            tensors = {name: tvm.runtime.tensor(array) for name, array in inputs.items()}
            function = function.with_attr(CALIBRATION, tensors)
        # Functions of all modules of a process share one registry: a name of its own for each.
        symbol = f"{PREFIX}_{digest.hexdigest()[:16]}"
        functions[variable] = function.with_attr("global_symbol", symbol)
    return tvm.IRModule(functions, attrs=module.attrs)


def _region_inputs(
    module: Any, regions: list[Any], samples: Mapping[str, NDArray[Any]]
) -> dict[Any, list[NDArray[np.float32]]]:
    """Run ``main`` on the CPU and return what reaches each region."""
    import tvm
    from tvm import relax

    plain = {
        variable: function.without_attr("Codegen") if variable in regions else function
        for variable, function in module.functions_items()
    }
    module = relax.transform.ToNonDataflow()(tvm.IRModule(plain))
    main = module["main"]
    calls = {
        binding.value.op: list(binding.value.args)
        for block in main.body.blocks
        for binding in block.bindings
        if isinstance(binding.value, relax.Call) and binding.value.op in regions
    }
    wanted = [argument for arguments in calls.values() for argument in arguments]
    names = [str(parameter.name) for parameter in main.params]
    if set(names) != set(samples):
        raise TargetError(
            f"Calibration data are of {', '.join(sorted(samples)) or 'nothing'}; give one array "
            f"for each input of main: {', '.join(names)}"
        )
    body = relax.SeqExpr(main.body.blocks, relax.Tuple(wanted))
    watched = relax.Function(main.params, body, relax.TupleType([v.ty for v in wanted])).with_attr(
        "global_symbol", "main"
    )
    functions = dict(module.functions_items())
    functions[module.get_global_var("main")] = watched
    collected: list[list[NDArray[np.float32]]] = []
    try:
        with quiet():
            module = relax.transform.Normalize()(tvm.IRModule(functions))
            module = relax.transform.LambdaLift()(module)
            machine = relax.VirtualMachine(tvm.compile(module, target="llvm"), tvm.cpu())
            for n in range(min(len(array) for array in samples.values())):
                inputs = (np.asarray(samples[name][n : n + 1], np.float32) for name in names)
                results = machine["main"](
                    *(tvm.runtime.tensor(np.ascontiguousarray(x)) for x in inputs)
                )
                collected.append([np.array(result.numpy()) for result in results])
    except Exception as error:
        raise TargetError(f"TVM cannot run the samples: {first_line(error)}") from None
    if not collected:
        raise TargetError("There are no samples to calibrate with; give at least one")
    columns = iter(np.concatenate(column) for column in zip(*collected, strict=True))
    return {variable: [next(columns) for _ in arguments] for variable, arguments in calls.items()}
