"""What a padding does that TVM's importer wrote as a loop nest: found out by running it."""

from typing import Any

import numpy as np

__all__ = ["padding_attributes"]


def padding_attributes(
    function: Any, before: tuple[int, ...], after: tuple[int, ...]
) -> dict[str, Any] | None:
    """Return the attributes that the nest would have as ``relax.nn.pad``.

    Parameters
    ----------
    function : tvm.tirx.PrimFunc
        From one float32 buffer to another.
    before, after : tuple of int
        Their shapes.

    Returns
    -------
    dict or None
        None if it does anything else than to surround its input by one number.

    """
    import tvm

    module = tvm.IRModule({"main": function.with_attr("global_symbol", "main")})
    executable = tvm.compile(module, target="llvm")

    def run(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        result = tvm.runtime.tensor(np.zeros(after, np.float32))
        executable["main"](tvm.runtime.tensor(array), result)
        return np.asarray(result.numpy())

    # Elements that follow the input, and what the others are.
    inside = run(np.ones(before, np.float32)) != run(np.zeros(before, np.float32))
    if not inside.any():
        return None
    first = [int(index.min()) for index in np.nonzero(inside)]
    box = tuple(slice(at, at + extent) for at, extent in zip(first, before, strict=True))
    probe = np.arange(1, 1 + np.prod(before), dtype=np.float32).reshape(before)
    result = run(probe)
    around = result[~inside]
    if not np.array_equal(result[box], probe) or int(inside.sum()) != probe.size:
        return None
    if around.size and (around != around[0]).any():
        return None
    widths = [
        width
        for at, old, new in zip(first, before, after, strict=True)
        for width in (at, new - at - old)
    ]
    value = float(around[0]) if around.size else 0.0
    return {"pad_mode": "constant", "pad_width": tuple(widths), "pad_value": value}
