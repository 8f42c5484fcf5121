"""Delays of the primitives of the 7 series at speed grade -1, as best known; estimates.

Sources, named at each figure:

``vivado``
    What Vivado prints for xc7a and xc7z010/020 parts of grade -1 (``Prop_…``, ``Setup_…`` lines of
    published timing reports); the figures behind the switching characteristics of DS187.
``prjxray``
    Artix-7 delays of Project X-Ray, as cited in Yosys' ``techlibs/xilinx/cells_sim.v``.
``scaled``
    Those of ``prjxray`` for the DSP48E1 are of a faster grade: four of them are known from reports
    of -1 parts (AREG to P 4.206, PREG to P 0.434, A to PCOUT 4.036, PCIN to P 1.518 ns), which are
    1.43, 1.32, 1.36 and 1.37 times as long. The others are multiplied by the larger of their kind:
    1.43 from a clock, 1.37 between pins and to a clock.
``assumed``
    Ours, on the safe side.

What drives a general net adds `NET_NS`. All times are in nanoseconds.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from ginseng.soc.synth.errors import SynthError
from ginseng.soc.synth.netlist import Cell

__all__ = ["CLOCK", "NET_NS", "PORT_LAUNCH_NS", "PORT_SETUP_NS", "Arc", "End", "arcs", "wire_ns"]

#: A net through the general interconnect (the issue's rule: 0.6 ns a net).
NET_NS: Final = 0.6
#: A register outside to an input port, and an output port to one; assumed, of the order of the
#: PS7's AXI ports.
PORT_LAUNCH_NS: Final = 1.5
PORT_SETUP_NS: Final = 0.8

#: A port, or one bit of it.
End = tuple[str, int | None]
#: The clock edge, as the start or the end of an arc.
CLOCK: Final[End] = ("", None)


@dataclass(frozen=True, slots=True)
class Arc:
    """``ns`` from ``start`` to ``end``; from `CLOCK` it launches, to `CLOCK` it is a setup."""

    start: End
    end: End
    ns: float


_LUT: Final = 0.124  # vivado: Prop_lut6_I0_O
_MUXF = {  # prjxray
    "MUXF7": {"I0": 0.217, "I1": 0.223, "S": 0.296},
    "MUXF8": {"I0": 0.104, "I1": 0.094, "S": 0.273},
}
_FF_TO_Q: Final = 0.518  # vivado: Prop_fdre_C_Q, the slower of SLICEL (0.456) and SLICEM
_FF_SETUP: Final = {  # vivado: Setup_fdre_C_…; of D assumed, -0.05 to 0.1 in reports
    "D": 0.1,
    "CE": 0.205,
    "R": 0.524,
    "S": 0.524,
    "CLR": 0.405,
    "PRE": 0.405,
}
#: prjxray: CARRY4, from S, DI and CI to O and CO, by index; CYINIT is for constants only.
_CARRY_O: Final[dict[End, tuple[float | None, ...]]] = {
    ("CYINIT", 0): (0.482, 0.598, 0.584, 0.642),
    ("CI", 0): (0.222, 0.334, 0.239, 0.313),
    ("S", 0): (0.223, 0.400, 0.523, 0.582),
    ("S", 1): (None, 0.205, 0.558, 0.618),
    ("S", 2): (None, None, 0.226, 0.330),
    ("S", 3): (None, None, None, 0.227),
    ("DI", 0): (None, 0.407, 0.556, 0.615),
    ("DI", 1): (None, None, 0.537, 0.596),
    ("DI", 2): (None, None, None, 0.438),
}
_CARRY_CO: Final[dict[End, tuple[float | None, ...]]] = {
    ("CYINIT", 0): (0.536, 0.494, 0.592, 0.580),
    ("CI", 0): (0.271, 0.157, 0.228, 0.114),
    ("S", 0): (0.340, 0.433, 0.512, 0.508),
    ("S", 1): (None, 0.469, 0.548, 0.528),
    ("S", 2): (None, None, 0.292, 0.378),
    ("S", 3): (None, None, None, 0.380),
    ("DI", 0): (0.379, 0.465, 0.540, 0.526),
    ("DI", 1): (None, 0.445, 0.520, 0.507),
    ("DI", 2): (None, None, 0.356, 0.398),
    ("DI", 3): (None, None, None, 0.385),
}
_LUTRAM_TO_O: Final = 1.344  # vivado: Prop_ramd64e_CLK_O
_LUTRAM_SETUP: Final = {"D": 0.461, "WE": 0.654, "A": 0.362}  # prjxray, the worst bit
_SRL_TO_Q: Final = 1.472  # prjxray
_SRL_SETUP: Final = {"D": 0.173, "CE": 0.654}  # prjxray; CE as WE of LUTRAM, assumed
_BRAM_TO_DO: Final = {False: 2.454, True: 0.882}  # vivado, prjxray: without, with output register
_BRAM_SETUP: Final = {  # vivado, prjxray
    "ADDR": 0.566,
    "DI": 0.737,
    "WE": 0.532,
    "EN": 0.443,
    "REGCE": 0.360,
    "RST": 0.342,
}


def wire_ns(driver: tuple[Cell, str] | None, load: tuple[Cell, str] | None, loads: int) -> float:
    """Return the delay of a net between two pins; None is a port of the design.

    Dedicated wires cost nothing: carry to carry, into and between the wide multiplexers, cascades
    of DSP48E1, and from a lookup table that drives nothing else into the carry beside it. What is
    not a lookup table reaches a carry's S through one.

    Parameters
    ----------
    driver, load : (Cell, str) or None
        Cell and port.
    loads : int
        Pins that the net drives.

    """
    if driver and load:
        source, out = driver
        sink, pin = load
        if sink.kind == "CARRY4":
            if (source.kind, out, pin) == ("CARRY4", "CO", "CI"):
                return 0.0
            if pin == "S":
                if _is_lut(source):
                    return 0.0 if loads == 1 else NET_NS + _LUT
                return NET_NS + _LUT
        if sink.kind == "MUXF7" and pin != "S" and _is_lut(source) and loads == 1:
            return 0.0
        if sink.kind == "MUXF8" and pin != "S" and source.kind == "MUXF7" and loads == 1:
            return 0.0
        if sink.kind == "DSP48E1" and source.kind == "DSP48E1" and out in _CASCADES:
            return 0.0
    return NET_NS


_CASCADES: Final = ("ACOUT", "BCOUT", "PCOUT", "CARRYCASCOUT", "MULTSIGNOUT")


def _is_lut(cell: Cell) -> bool:
    return cell.kind.startswith("LUT") or cell.kind == "INV"


def _gate(cell: Cell) -> Iterator[Arc]:
    (output,) = cell.outputs
    for port in cell.inputs:
        yield Arc((port, None), (output, None), _MUXF.get(cell.kind, {}).get(port, _LUT))


def _carry(cell: Cell) -> Iterator[Arc]:
    for port, table in (("O", _CARRY_O), ("CO", _CARRY_CO)):
        for start, delays in table.items():
            for index, ns in enumerate(delays):
                if ns is not None:
                    yield Arc(start, (port, index), ns)


def _flip_flop(cell: Cell) -> Iterator[Arc]:
    yield Arc(CLOCK, ("Q", None), _FF_TO_Q)
    for port, ns in _FF_SETUP.items():
        if port in cell.inputs:
            yield Arc((port, None), CLOCK, ns)


def _lutram(cell: Cell) -> Iterator[Arc]:
    if cell.kind in ("RAM32M", "RAM64M"):
        # One write address, that of D.
        for letter in "ABCD":
            yield Arc((f"ADDR{letter}", None), (f"DO{letter}", None), _LUT)
            yield Arc(CLOCK, (f"DO{letter}", None), _LUTRAM_TO_O)
            yield Arc((f"DI{letter}", None), CLOCK, _LUTRAM_SETUP["D"])
        yield Arc(("ADDRD", None), CLOCK, _LUTRAM_SETUP["A"])
        yield Arc(("WE", None), CLOCK, _LUTRAM_SETUP["WE"])
        return
    for output in cell.outputs:
        yield Arc(CLOCK, (output, None), _LUTRAM_TO_O)
    for port in cell.inputs:
        if port in ("D", "WE"):
            yield Arc((port, None), CLOCK, _LUTRAM_SETUP[port])
        elif port.startswith("DPRA"):
            yield Arc((port, None), ("DPO", None), _LUT)
        elif port.startswith("A"):
            yield Arc((port, None), CLOCK, _LUTRAM_SETUP["A"])
            yield Arc((port, None), ("SPO" if "SPO" in cell.outputs else "O", None), _LUT)


def _shift_register(cell: Cell) -> Iterator[Arc]:
    for output in cell.outputs:
        yield Arc(CLOCK, (output, None), _SRL_TO_Q)
    for port in cell.inputs:
        if port in _SRL_SETUP:
            yield Arc((port, None), CLOCK, _SRL_SETUP[port])
        elif port.startswith("A"):
            yield Arc((port, None), ("Q", None), _LUT)


def _block_ram(cell: Cell) -> Iterator[Arc]:
    for port in cell.outputs:
        if port.startswith("DO"):
            side = "B" if port[2] == "B" or port.startswith("DOPB") else "A"
            yield Arc(CLOCK, (port, None), _BRAM_TO_DO[bool(cell.number(f"DO{side}_REG"))])
    for port in cell.inputs:
        for prefix, ns in _BRAM_SETUP.items():
            if port.startswith(prefix):
                yield Arc((port, None), CLOCK, ns)


def _dsp(cell: Cell) -> Iterator[Arc]:
    """Yield the arcs of a DSP48E1 by the registers that it uses (scaled, but for those known)."""
    registers = {k: cell.number(f"{k}REG", 1) for k in ("A", "AD", "B", "C", "D", "M", "P")}
    multiplies = cell.flag("USE_MULT") != "NONE"
    adds_before = cell.flag("USE_DPORT") == "TRUE"
    cascade = 1.072  # vivado: to PCOUT rather than P, 0.148 ns at the faster grade

    # From each operand to P, from its register and from its pin.
    if multiplies:
        pin_to_p = {"A": 5.21 if adds_before else 3.841, "B": 3.69, "C": 1.82}
        pin_to_m = {"A": 3.29 if adds_before else 1.94, "B": 1.76}
        register_to_p = {"A": 5.63 if adds_before else 4.206, "B": 4.009, "C": 2.41}
        if adds_before:
            pin_to_p["D"], pin_to_m["D"], register_to_p["D"] = 5.09, 3.16, 5.59
    else:
        pin_to_p = {"A": 2.09, "B": 2.07, "C": 1.82}
        pin_to_m = {}
        register_to_p = {"A": 2.33, "B": 2.31, "C": 2.41}
    pin_to_register = {"A": 0.35, "B": 0.44, "C": 0.23, "D": 0.34}
    # The adder's control, and what enters from the side.
    for port in ("OPMODE", "ALUMODE", "INMODE", "CARRYIN", "CARRYINSEL"):
        pin_to_p[port] = 2.07
        pin_to_register[port] = 0.44
        registers[port] = cell.number(f"{port}REG", 1)

    outputs = [port for port in ("P", "PCOUT", "CARRYOUT") if port in cell.outputs]
    for port in cell.inputs:
        if port.startswith(("CE", "RST")):
            yield Arc((port, None), CLOCK, 0.5)  # assumed, the larger of the reports'
    for output in outputs:
        more = cascade if output == "PCOUT" else 1.0
        if registers["P"]:
            yield Arc(CLOCK, (output, None), 0.434 * more)
            continue
        if multiplies and registers["M"]:
            yield Arc(CLOCK, (output, None), 2.39 * more)
        for port, ns in register_to_p.items():
            if registers[port] and (port == "C" or not (multiplies and registers["M"])):
                yield Arc(CLOCK, (output, None), ns * more)
        if multiplies and adds_before and registers["AD"] and not registers["M"]:
            yield Arc(CLOCK, (output, None), 4.23 * more)
        for side in ("PCIN", "CARRYCASCIN"):
            yield Arc((side, None), (output, None), 1.518 * more)

    for port, ns in pin_to_p.items():
        if port not in cell.inputs:
            continue
        if registers[port]:
            yield Arc((port, None), CLOCK, pin_to_register[port])
        elif port in ("A", "D") and adds_before and registers["AD"]:
            yield Arc((port, None), CLOCK, 1.76)
        elif port in pin_to_m and registers["M"]:
            yield Arc((port, None), CLOCK, pin_to_m[port])
        elif registers["P"]:
            yield Arc((port, None), CLOCK, ns)
        else:
            for output in outputs:
                yield Arc((port, None), (output, None), ns * (cascade if output == "PCOUT" else 1))
    if registers["P"]:
        for side in ("PCIN", "CARRYCASCIN"):
            yield Arc((side, None), CLOCK, 1.41)
    for side, register in (("ACIN", "A"), ("BCIN", "B")):
        if registers[register]:
            yield Arc((side, None), CLOCK, pin_to_register[register])


_KINDS: Final[dict[str, Callable[[Cell], Iterator[Arc]]]] = {
    **dict.fromkeys(("LUT1", "LUT2", "LUT3", "LUT4", "LUT5", "LUT6", "INV"), _gate),
    **dict.fromkeys(("MUXF7", "MUXF8"), _gate),
    "CARRY4": _carry,
    **dict.fromkeys(("FDRE", "FDSE", "FDCE", "FDPE"), _flip_flop),
    **dict.fromkeys(("RAM32M", "RAM64M", "RAM32X1D", "RAM64X1D", "RAM128X1D", "RAM64X1S"), _lutram),
    **dict.fromkeys(("SRL16E", "SRLC32E"), _shift_register),
    **dict.fromkeys(("RAMB18E1", "RAMB36E1"), _block_ram),
    "DSP48E1": _dsp,
}


def arcs(cell: Cell) -> list[Arc]:
    """Return the delays of a cell; a port without index stands for all its bits.

    Raises
    ------
    SynthError
        If there are no figures for such a cell.

    """
    if cell.kind not in _KINDS:
        raise SynthError(
            f"Cell {cell.name} is a {cell.kind}, of which no delays are known; add it to "
            f"{__name__}, which knows {', '.join(_KINDS)}"
        )
    return list(_KINDS[cell.kind](cell))
