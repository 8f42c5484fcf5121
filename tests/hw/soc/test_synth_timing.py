"""Static timing on netlists so small that their paths are added up by hand."""

import pytest

from ginseng.soc.synth.delays import NET_NS, PORT_LAUNCH_NS, PORT_SETUP_NS
from ginseng.soc.synth.errors import SynthError
from ginseng.soc.synth.netlist import Netlist
from ginseng.soc.synth.timing import longest_paths

# Figures written out again, so that a slip in the table shows.
FF_TO_Q, FF_SETUP, LUT = 0.518, 0.1, 0.124
OUTPUTS = ("O", "Q", "CO", "P", "PCOUT", "DOADO", "DOBDO", "DOA", "DOB", "DOC", "DOD")


class Builder:
    """Numbers nets by name: ``"a"`` is one bit, ``["a", "b"]`` two, "0" and "1" are constants."""

    def __init__(self):
        self.bits, self.cells, self.ports = {}, {}, {}

    def bit(self, name):
        return name if name in ("0", "1") else self.bits.setdefault(name, 2 + len(self.bits))

    def cell(self, kind, parameters=None, name=None, **ports):
        wires = {port: [ends] if isinstance(ends, str) else ends for port, ends in ports.items()}
        self.cells[name or f"$c{len(self.cells)}"] = {
            "type": kind,
            "parameters": parameters or {},
            "attributes": {},
            "port_directions": {p: "output" if p in OUTPUTS else "input" for p in ports},
            "connections": {port: [self.bit(end) for end in ends] for port, ends in wires.items()},
        }

    def port(self, direction, name):
        self.ports[name] = {"direction": direction, "bits": [self.bit(name)]}

    def paths(self):
        names = {name: {"hide_name": 0, "bits": [bit]} for name, bit in self.bits.items()}
        return longest_paths(Netlist({"ports": self.ports, "cells": self.cells, "netnames": names}))

    def slowest(self):
        return self.paths()[0]


def test_a_register_to_a_register_through_one_table():
    b = Builder()
    b.cell("FDRE", C="clk", CE="1", R="0", D="0", Q="a")
    b.cell("LUT2", I0="a", I1="a", O="n")
    b.cell("FDRE", C="clk", CE="1", R="0", D="n", Q="q")
    path = b.slowest()
    assert path.ns == pytest.approx(FF_TO_Q + NET_NS + LUT + NET_NS + FF_SETUP)
    assert (path.start, path.end, path.levels) == ("a", "q", 1)
    assert [step.kind for step in path.steps] == ["FDRE", "LUT2", "FDRE"]
    assert path.steps[1].total_ns == pytest.approx(FF_TO_Q + NET_NS + LUT)


def test_the_slower_of_two_ways_counts():
    b = Builder()
    b.cell("FDRE", C="clk", D="0", Q="a")
    b.cell("LUT1", I0="a", O="n1")
    b.cell("LUT1", I0="n1", O="n2")
    b.cell("LUT2", I0="a", I1="n2", O="n3")
    b.cell("FDRE", C="clk", D="n3", Q="q")
    assert b.slowest().ns == pytest.approx(FF_TO_Q + 3 * (NET_NS + LUT) + NET_NS + FF_SETUP)


def test_a_carry_chain_pays_its_first_net_only():
    b = Builder()
    b.cell("FDRE", C="clk", D="0", Q="a")
    b.cell("LUT2", I0="a", I1="0", O="s")
    zeros = ["0"] * 3
    b.cell("CARRY4", CI="0", CYINIT="0", DI=["0", *zeros], S=["s", *zeros],
           O=["o0", "o1", "o2", "o3"], CO=["c0", "c1", "c2", "c3"])  # fmt: skip
    b.cell("CARRY4", CI="c3", CYINIT="0", DI=["0", *zeros], S=["0", *zeros],
           O=["p0", "p1", "p2", "p3"], CO=["d0", "d1", "d2", "d3"])  # fmt: skip
    b.cell("FDRE", C="clk", D="p1", Q="q")
    # To the table; S0 to CO3; CI to O1; to the register.
    ns = FF_TO_Q + NET_NS + LUT + 0.508 + 0.334 + NET_NS + FF_SETUP
    path = b.slowest()
    assert path.ns == pytest.approx(ns)
    assert [step.pins for step in path.steps] == ["CLK>Q", "I0>O", "S>CO", "CI>O", "D>"]


def test_what_is_no_table_reaches_a_carry_through_one():
    b = Builder()
    b.cell("FDRE", C="clk", D="0", Q="a")
    b.cell("CARRY4", CI="0", CYINIT="0", DI=["0"] * 4, S=["a", "0", "0", "0"],
           O=["o0", "o1", "o2", "o3"], CO=["c0", "c1", "c2", "c3"])  # fmt: skip
    b.cell("FDRE", C="clk", D="o0", Q="q")
    ns = FF_TO_Q + (NET_NS + LUT) + 0.223 + NET_NS + FF_SETUP
    assert b.slowest().ns == pytest.approx(ns)


def test_wide_multiplexers_are_beside_their_tables():
    b = Builder()
    for name in "abs":
        b.cell("FDRE", C="clk", D="0", Q=name)
    for n in range(4):
        b.cell("LUT1", I0="a", O=f"t{n}")
    b.cell("MUXF7", I0="t0", I1="t1", S="b", O="m0")
    b.cell("MUXF7", I0="t2", I1="t3", S="b", O="m1")
    b.cell("MUXF8", I0="m0", I1="m1", S="s", O="m")
    b.cell("FDRE", C="clk", D="m", Q="q")
    # Select to F7, then F8, beats table to F7.
    ns = FF_TO_Q + max(NET_NS + 0.296, NET_NS + LUT + 0.223) + 0.104 + NET_NS + FF_SETUP
    assert b.slowest().ns == pytest.approx(ns)


@pytest.mark.parametrize(("register", "clock_to_out"), [("0", 2.454), ("1", 0.882)])
def test_a_block_ram_is_slow_without_its_output_register(register, clock_to_out):
    b = Builder()
    b.cell("RAMB36E1", {"DOA_REG": register}, "core.inp.0.3", CLKARDCLK="clk", DOADO=["x", "y"],
           ADDRARDADDR=["0"], WEA=["0"])  # fmt: skip
    b.cell("FDRE", C="clk", D="y", Q="q")
    path = b.slowest()
    assert path.ns == pytest.approx(clock_to_out + NET_NS + FF_SETUP)
    assert path.start == "core.inp"


def test_the_write_enable_of_a_block_ram_is_an_end():
    b = Builder()
    b.cell("FDRE", C="clk", D="0", Q="a")
    b.cell("RAMB36E1", None, "core.acc.1", CLKARDCLK="clk", DOADO=["x"], WEA=["a"])
    path = b.slowest()
    assert path.ns == pytest.approx(FF_TO_Q + NET_NS + 0.532)
    assert path.end == "core.acc.WEA"


DSP = {"USE_MULT": "MULTIPLY", "USE_DPORT": "FALSE"}


@pytest.mark.parametrize(
    ("registers", "before", "after"),
    [
        # Operands registered inside, product registered: a setup, and a fast output.
        ({"AREG": "1", "BREG": "1", "CREG": "1", "MREG": "1", "PREG": "1"}, 0.35, 0.434),
        # Only the product: through the multiplier before it.
        ({"AREG": "0", "BREG": "0", "CREG": "1", "MREG": "1", "PREG": "0"}, 1.94, 2.41),
        # Only the operands.
        ({"AREG": "1", "BREG": "1", "CREG": "1", "MREG": "0", "PREG": "0"}, 0.35, 4.206),
    ],
)
def test_the_registers_of_a_multiplier_divide_its_delay(registers, before, after):
    b = Builder()
    b.cell("FDRE", C="clk", D="0", Q="a")
    b.cell("DSP48E1", DSP | registers, A=["a"], B=["0"], C=["0"], CLK="clk", P=["p"], name="mul")
    b.cell("FDRE", C="clk", D="p", Q="q")
    ends = {path.end: path.ns for path in b.paths()}
    assert ends["mul.A"] == pytest.approx(FF_TO_Q + NET_NS + before)
    assert ends["q"] == pytest.approx(after + NET_NS + FF_SETUP)


def test_a_multiplier_without_registers_is_one_long_path():
    b = Builder()
    b.cell("FDRE", C="clk", D="0", Q="a")
    none = {f"{name}REG": "0" for name in ("A", "B", "C", "M", "P")}
    b.cell("DSP48E1", DSP | none, A=["a", "a"], B=["0"], C=["0"], CLK="clk", P=["p", "r"])
    b.cell("FDRE", C="clk", D="r", Q="q")
    path = b.slowest()
    assert path.ns == pytest.approx(FF_TO_Q + NET_NS + 3.841 + NET_NS + FF_SETUP)
    assert [step.pins for step in path.steps] == ["CLK>Q", "A>P", "D>"]


def test_lutram_reads_through_and_captures_what_it_writes():
    b = Builder()
    for name in "abw":
        b.cell("FDRE", C="clk", D="0", Q=name)
    b.cell("RAM32M", ADDRA=["a"], ADDRB=["0"], ADDRC=["0"], ADDRD=["w"], DIA=["b"], DIB=["0"],
           DIC=["0"], DID=["0"], WE="w", WCLK="clk", DOA=["x"], DOB=["y"], DOC=["z"],
           DOD=["v"], name="fifo.storage.0.1")  # fmt: skip
    b.cell("FDRE", C="clk", D="x", Q="q")
    ends = {path.end: path.ns for path in b.paths()}
    read = FF_TO_Q + NET_NS + LUT
    assert ends["q"] == pytest.approx(max(read, 1.344) + NET_NS + FF_SETUP)
    assert ends["fifo.storage.WE"] == pytest.approx(FF_TO_Q + NET_NS + 0.654)


def test_ports_are_registers_outside():
    b = Builder()
    b.port("input", "i")
    b.cell("LUT1", I0="i", O="o")
    b.port("output", "o")
    path = b.slowest()
    assert path.ns == pytest.approx(PORT_LAUNCH_NS + NET_NS + LUT + NET_NS + PORT_SETUP_NS)
    assert (path.start, path.end) == ("i", "o")


def test_a_combinational_loop_is_named():
    b = Builder()
    b.cell("LUT1", name="round", I0="x", O="y")
    b.cell("LUT1", name="trip", I0="y", O="x")
    with pytest.raises(SynthError, match=r"combinational loop.*round, trip"):
        b.paths()


def test_a_cell_without_figures_is_an_error():
    b = Builder()
    b.cell("URAM288", O="a")
    with pytest.raises(SynthError, match="URAM288, of which no delays are known"):
        b.paths()
