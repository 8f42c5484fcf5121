"""``relax.ext.ginseng``: regions of a partitioned module become protected programs."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from ginseng.compiler import CompilerError, compile_model
from ginseng.isa.config import SystemConfig
from ginseng.target.errors import TargetError
from ginseng.target.partition import CALIBRATION
from ginseng.target.patterns import PREFIX, relax_patterns
from ginseng.target.region import Region, keep_region

__all__ = ["register"]

_OPTIONS: Final = ("board", "config")


def register() -> None:
    """Enter the patterns and the code generator in TVM's registries. Once is enough.

    The code generator takes these options of ``RunCodegen({"ginseng": {...}})``: ``board``, a name
    that `ginseng.driver.open_board` knows (by default ``"model"``), and ``config``, the canonical
    text of the build to compile for (`SystemConfig.canonical`, by default the default build).
    """
    import tvm_ffi
    from tvm.relax.backend.pattern_registry import get_pattern, register_patterns

    patterns = relax_patterns()
    if get_pattern(patterns[0][0]) is None:
        register_patterns(patterns)
    for error in (CompilerError, TargetError):
        # Else TVM would make RuntimeError of them on their way out of a pass.
        tvm_ffi.register_error(error.__name__, error)
    tvm_ffi.register_global_func(f"relax.ext.{PREFIX}", _generate, override=True)


def _generate(
    functions: Sequence[Any], options: Mapping[str, Any] | None, constants: Mapping[Any, str]
) -> list[Any]:
    """Compile each region, and register what runs it under the region's symbol.

    TVM's virtual machine looks symbols up among the functions of the process where no module has
    them, and Python cannot make a module; so there is none to return.
    """
    import tvm_ffi

    given = {str(name): str(value) for name, value in (options or {}).items()}
    if unknown := sorted(set(given) - set(_OPTIONS)):
        raise TargetError(
            f"Option {unknown[0]} of Ginseng's code generator is not known; there are "
            f"{' and '.join(_OPTIONS)}"
        )
    config = SystemConfig()
    if "config" in given:
        config = SystemConfig.from_canonical(given["config"].encode())
    for function in functions:
        symbol = str(function.attrs["global_symbol"])
        tensors = function.attrs.get(CALIBRATION)
        if tensors is None:
            raise TargetError(
                f"Region {symbol} is not calibrated; give partition samples of the module's inputs"
            )
        samples = {str(name): np.array(tensor.numpy()) for name, tensor in tensors.items()}
        compiled = compile_model(_flat(function), samples, config=config, name=symbol)
        region = Region(compiled, given.get("board", "model"))
        keep_region(symbol, region)
        tvm_ffi.register_global_func(symbol, region, override=True)
    return []


def _flat(function: Any) -> Any:
    """Return a module whose ``main`` is a region, its composite functions inlined."""
    import tvm
    from tvm import relax

    plain = function.without_attr("Codegen").without_attr(CALIBRATION)
    module = tvm.IRModule({"main": plain.with_attr("global_symbol", "main")})
    module = relax.transform.LambdaLift()(module)
    lifted = {
        variable: part.without_attr("Composite") for variable, part in module.functions_items()
    }
    return relax.transform.InlinePrivateFunctions()(tvm.IRModule(lifted))
