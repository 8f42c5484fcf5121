import pytest
from amaranth import Cat, Module, Signal, signed
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from ginseng.soc.synth.area import Area, exceeded
from ginseng.soc.synth.errors import SynthError
from ginseng.soc.synth.flow import block_of, synthesise
from ginseng.soc.synth.report import document
from ginseng.soc.synth.timing import longest_paths


def test_cells_are_counted_in_the_units_of_the_device():
    area = Area.of({"LUT2": 3, "INV": 1, "RAM32M": 2, "SRL16E": 1, "FDRE": 5, "RAMB18E1": 3})
    assert area == Area(lut=3 + 1 + 8 + 1, lutram=9, ff=5, bram36=1.5)


def test_a_cell_of_unknown_area_is_an_error():
    with pytest.raises(SynthError, match="FIFO36E1 has no known area"):
        Area.of({"FIFO36E1": 1})


def test_within_the_limits_nothing_is_said():
    assert not list(exceeded(Area(lut=10), {"core": Area(lut=10)}, limits={"lut": 10}))


def test_a_limit_exceeded_names_the_largest_block():
    blocks = {"core": Area(dsp=3), "core.alu": Area(dsp=8)}
    (sentence,) = exceeded(Area(dsp=11), blocks, limits={"dsp": 10})
    assert sentence == "dsp is 11, more than the 10 allowed; the largest block is core.alu with 8"


def test_a_limit_exceeded_names_the_block_that_grew_since_the_baseline():
    blocks = {"core": Area(lut=50), "dma": Area(lut=40), "new": Area(lut=9)}
    before = {"core": Area(lut=50), "dma": Area(lut=20)}
    (sentence,) = exceeded(Area(lut=99), blocks, before, limits={"lut": 80})
    assert sentence.endswith("dma grew most, by 20")


class Multiply(wiring.Component):
    """A product, registered on both sides."""

    a: In(signed(16))
    b: In(signed(16))
    o: Out(signed(32))

    def elaborate(self, platform):
        m = Module()
        a, b = Signal(signed(16)), Signal(signed(16))
        m.d.sync += [a.eq(self.a), b.eq(self.b), self.o.eq(a * b)]
        return m


class Small(wiring.Component):
    """A multiplier, a counter, and a memory of a block RAM."""

    a: In(signed(16))
    o: Out(32)
    count: Out(24)

    def elaborate(self, platform):
        m = Module()
        m.submodules.multiply = multiply = Multiply()
        m.submodules.table = table = memory.Memory(shape=32, depth=1024, init=[])
        write, read = table.write_port(), table.read_port()
        m.d.comb += [
            multiply.a.eq(self.a),
            multiply.b.eq(self.a),
            write.data.eq(multiply.o),
            write.addr.eq(self.count),
            write.en.eq(self.a[0]),
            read.addr.eq(Cat(self.count[3:], self.a)),
            self.o.eq(read.data),
        ]
        m.d.sync += self.count.eq(self.count + 1)
        return m


@pytest.fixture(scope="module")
def small():
    pytest.importorskip("pyosys", reason="comes with the extra synth")
    return synthesise(Small(), "small")


def test_each_block_has_what_it_is_made_of(small):
    assert small.blocks["multiply"].dsp == small.total.dsp == 1
    assert small.blocks["small"].bram36 == small.total.bram36 == 1
    assert small.blocks["small"].ff == 24
    assert small.total.ff <= sum(area.ff for area in small.blocks.values())


def test_blocks_of_the_whole_sum_up_to_at_least_the_flat_netlist(small):
    summed = sum(small.blocks.values(), Area())
    for name in ("lut", "ff", "dsp", "bram36"):
        assert getattr(summed, name) >= getattr(small.total, name)


def test_the_counter_is_the_only_carry_chain_and_ends_in_time(small):
    paths = longest_paths(small.netlist)
    assert {path.start for path in paths if path.end == "count"} == {"count"}
    chain = next(path for path in paths if path.end == "count")
    assert sum(step.kind == "CARRY4" for step in chain.steps) == 6
    assert chain.ns < 10
    report = document(small, paths, limits={"lut": 99}, count=2, digest="", tool="")
    assert len(report["timing"]["paths"]) == 2
    assert report["timing"]["worst_ns"] == report["timing"]["paths"][0]["ns"]


def test_a_signal_is_of_the_deepest_block_that_holds_it():
    blocks = {"core": 1, "core.alu": 1, "core.alu.lane": 1}
    assert block_of("core.alu.lane.x.y", blocks) == "core.alu.lane"
    assert block_of("core.alux.y", blocks) == "core"
    assert block_of("bank.y", blocks) == ""
