"""Elaborates components to Verilog, byte for byte the same every time."""

from typing import Any

from amaranth.back import verilog as backend

__all__ = ["verilog"]


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
    return text
