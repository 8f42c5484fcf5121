"""Elaborates components to Verilog, byte for byte the same every time."""

import re
from itertools import count
from typing import Any, Final

from amaranth.back import verilog as backend

__all__ = ["verilog"]

#: How Yosys writes bits of a variable that are constant where others are not. No event ever starts
#: such a block: a simulator may leave the bits zero.
_CONSTANT: Final = re.compile(
    r"^  always @\*\n(    \S.* = (?:\d+'[bdh][0-9a-f]+|[{}, ])+;\n)", re.MULTILINE
)


def verilog(component: Any, name: str) -> str:
    """Return the Verilog of ``component`` with ``name`` as its top module.

    Source locations are left out: they name paths of the machine that built it. The first line of
    the generator, which names its version, stays.

    Parameters
    ----------
    component : wiring.Component
        What to elaborate.
    name : str
        Of the top module.

    """
    text: str = backend.convert(component, name=name, emit_src=False, strip_internal_attrs=True)
    numbers = count()

    def begun(found: re.Match[str]) -> str:
        # By the initial value of a variable, as Yosys begins its other blocks without inputs.
        start = f"\\constant${next(numbers)} "
        return (
            f"  reg {start}= 0;\n  always @* begin\n    if ({start}) begin end\n{found[1]}  end\n"
        )

    return _CONSTANT.sub(begun, text)
