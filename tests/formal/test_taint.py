"""What flows must be found and what does not flow must not."""

import os

import pytest

pytest.importorskip("pyosys", reason="comes with the extra formal")

from ginseng.bench.errors import BenchError
from ginseng.bench.formal.engine import check_proof
from ginseng.bench.formal.proof import load_proofs

FILE = """
from amaranth import Mux, Signal, unsigned
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out
from ginseng.bench.formal.harness import Harness
from ginseng.bench.formal.proof import Bug, Engine, Proof
from ginseng.bench.formal.taint import Secret
from amaranth import Module

class Dut(wiring.Component):
    secret: In(4)
    other: In(4)
    seals: In(1)
    a: Out(4)
    b: Out(4)

    def elaborate(self, platform):
        m = Module()
        m.submodules.rows = rows = memory.Memory(shape=unsigned(4), depth=16, init=[])
        put, get = rows.write_port(), rows.read_port()
        m.d.comb += [get.addr.eq(self.other), put.en.eq(self.seals)]
        {body}
        return m

class Whole(Harness):
    def build(self, m):
        m.submodules.dut = dut = Dut()
        self.open(dut)
        self.secrets.append(Secret(name="s", sources=("dut.secret",), {secret}))

PROOFS = [Proof(name="t", claim="c", harness=Whole, configuration="c", generalises="g",
                engine=Engine.TAINT)]
"""


def check(tmp_path, body, secret):
    file = tmp_path / "t.py"
    file.write_text(FILE.format(body=body.replace("\n", "\n        "), secret=secret))
    (proof,) = load_proofs(file)
    return check_proof(proof, file, tmp_path, os.environ)


B_ONLY = 'sinks=("dut.a",), reaches=("dut.b",)'
FLOWS = {
    "gate": "m.d.comb += self.a.eq(self.secret & self.other)",
    "register": "m.d.sync += self.a.eq(self.secret)",
    "sum": "m.d.comb += self.a.eq(self.secret + self.other)",
    "select": "m.d.comb += self.a.eq(Mux(self.secret[3], self.other, 0))",
    "condition": "with m.If(self.secret == 7):\n    m.d.sync += self.a.eq(self.other)",
    "memory": "m.d.comb += [put.data.eq(self.secret), self.a.eq(get.data)]",
    "written address": "m.d.comb += [put.addr.eq(self.secret), self.a.eq(get.data)]",
    "enable": "m.d.comb += [put.en.eq(self.secret[0]), put.data.eq(3), self.a.eq(get.data)]",
    "read address": "m.d.comb += [get.addr.eq(self.secret), self.a.eq(get.data)]",
}


@pytest.mark.parametrize("body", FLOWS.values(), ids=FLOWS)
def test_every_way_is_found(body, tmp_path):
    result = check(tmp_path, f"m.d.comb += self.b.eq(self.secret)\n{body}", B_ONLY)
    assert not result.passed
    assert "s gets to dut.a" in result.detail


NO_FLOWS = {
    "apart": "m.d.sync += self.a.eq(self.other)",
    "other column": "m.d.comb += [put.data.eq(self.secret[0]), self.a[1:].eq(get.data[1:])]",
    "constant select": "m.d.comb += self.a.eq(Mux(0, self.secret, self.other))",
}


@pytest.mark.parametrize("body", NO_FLOWS.values(), ids=NO_FLOWS)
def test_what_does_not_depend_on_it_is_not_found(body, tmp_path):
    result = check(tmp_path, f"m.d.comb += self.b.eq(self.secret)\n{body}", B_ONLY)
    assert result.passed, result.detail


def test_a_condition_holds_in_the_cycle_of_the_secret_only(tmp_path):
    both = "m.d.comb += self.b.eq(self.secret)\n"
    now = "m.d.sync += self.a.eq(Mux(self.seals, self.other, self.secret))"
    later = "kept = Signal(4)\nm.d.sync += kept.eq(self.secret)\n"
    later += "m.d.comb += self.a.eq(Mux(self.seals, self.other, kept))"
    memory = "m.d.comb += [put.data.eq(self.secret), self.a.eq(get.data)]"
    seals = f'{B_ONLY}, when={{"dut.seals": 1}}'
    opens = f'{B_ONLY}, when={{"dut.seals": 0}}'
    assert check(tmp_path, both + now, seals).passed
    assert not check(tmp_path, both + now, opens).passed
    assert not check(tmp_path, both + later, seals).passed
    assert check(tmp_path, both + memory, opens).passed
    assert not check(tmp_path, both + memory, seals).passed


def test_what_is_cut_is_reached_and_goes_no_further(tmp_path):
    body = "m.d.comb += self.b.eq(self.secret ^ self.other)\nm.d.sync += self.a.eq(self.b)"
    assert not check(tmp_path, body, B_ONLY).passed
    assert check(tmp_path, body, f'{B_ONLY}, cuts=("dut.b",)').passed


def test_a_secret_that_gets_nowhere_shows_nothing(tmp_path):
    nowhere = 'sinks=(), reaches=("dut.b",)'
    body = "m.d.comb += [self.a.eq(self.secret), self.b.eq(self.other)]"
    result = check(tmp_path, body, nowhere)
    assert not result.passed
    assert result.detail == "s misses dut.b"


def test_a_net_that_does_not_exist_is_named(tmp_path):
    secret = 'sinks=("dut.nothing",), reaches=()'
    with pytest.raises(BenchError, match=r"Secret 's' names the net dut\.nothing"):
        check(tmp_path, "m.d.comb += self.a.eq(self.secret)", secret)
