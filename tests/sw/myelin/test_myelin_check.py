"""Whole networks: what is accepted, what is refused and by which node, and what is certified."""

import json

import cbor2
import numpy as np
import onnx
import pytest

pytest.importorskip("tvm", reason="comes with the extra tvm")
pytest.importorskip("dp_accounting", reason="comes with the extra myelin")

import tvm
from tvm import relax

from ginseng.cli.app import main
from ginseng.myelin.checker import certificate as certificate_module
from ginseng.myelin.checker.certificate import (
    ASSUMPTIONS,
    certify,
    checker_digest,
    write_certificate,
)
from ginseng.myelin.checker.check import check_function
from ginseng.myelin.errors import MyelinError, PrivacyError
from ginseng.myelin.graph import load_graph
from ginseng.myelin.privacy.ledger import Terms


@pytest.fixture
def saved(tmp_path):
    def save(model, name="net"):
        path = tmp_path / f"{name}.onnx"
        onnx.save(model, path)
        return path

    return save


def verdict_of(path, **options):
    graph = load_graph(path, **options)
    return check_function(graph.function, graph.examples, graph.module)


@pytest.mark.parametrize(
    ("name", "arguments"), [("vgg9", ()), ("resnet32", ("group",)), ("small", ())]
)
def test_networks_whose_examples_stay_apart_are_accepted(saved, networks, name, arguments):
    verdict = verdict_of(saved(getattr(networks, name)(*arguments)))
    assert verdict.accepted, f"{verdict.node}: {verdict.reason}"
    assert verdict.node == verdict.reason == ""


AXIS_0 = ([0], np.int64)
BAD = {
    "batch normalisation": (
        lambda n: n.resnet32("batch"),
        "relax.nn.batch_norm",
        "statistics over the examples",
    ),
    "x - x.mean(0)": (lambda n: n.centred(), "relax.mean", "a reduction over the examples"),
    "softmax over the batch": (
        lambda n: n.small(("Softmax", [], {"axis": 0})),
        "relax.nn.softmax",
        "over the examples",
    ),
    "cumsum over the batch": (
        lambda n: n.small(("CumSum", [AXIS_0], {})),
        "relax.cumsum",
        "over the examples",
    ),
    "sum over the batch": (
        lambda n: n.small(("ReduceSum", [AXIS_0], {})),
        "relax.sum",
        "over the examples",
    ),
    "transposed result": (
        lambda n: n.small(("Transpose", [], {})),
        "the result",
        "is one example per slice of axis 1",
    ),
    "batch folded away": (
        lambda n: n.small(("Reshape", [([-1], np.int64)], {})),
        "relax.reshape",
        "takes the axis of the examples apart",
    ),
    "places told apart": (
        lambda n: n.small(("Add", [(np.ones((7, 6)),)], {})),
        "relax.add",
        "tells the places of the batch apart",
    ),
    "sorted": (
        lambda n: n.small(("Gather", [([1, 0, 2], np.int64)], {"axis": 0})),
        "relax.take",
        "examples are taken by their places",
    ),
}


@pytest.mark.parametrize(("make", "node", "reason"), BAD.values(), ids=BAD)
def test_networks_that_mix_examples_are_refused_by_the_node(saved, networks, make, node, reason):
    verdict = verdict_of(saved(make(networks)))
    assert not verdict.accepted
    assert verdict.node.endswith(node)
    assert reason in verdict.reason


def test_an_operator_without_a_rule_is_refused(graphs):
    module = graphs.build({"x": ((7, 4), "float32")}, lambda _, x: relax.op.sort(x, axis=1))
    verdict = check_function(module["main"], ["x"])
    assert (verdict.accepted, verdict.reason) == (False, "no rule for the operator sort")
    # On what is public too: it could be anything.
    module = graphs.build(
        {"x": ((7, 4), "float32"), "w": ((4,), "float32")},
        lambda b, x, w: relax.op.add(x, b.emit(relax.op.sort(w, axis=0))),
    )
    assert check_function(module["main"], ["x"]).reason == "no rule for the operator sort"


def test_code_from_outside_is_refused(graphs):
    def outside(_, x):
        return relax.Call(
            relax.ExternFunc("evil"), [x], ty_args=[relax.TensorType((7, 4), "float32")]
        )

    module = graphs.build({"x": ((7, 4), "float32")}, outside)
    verdict = check_function(module["main"], ["x"])
    assert not verdict.accepted
    assert verdict.reason == "no rule for a call of a function; inline it"


def test_a_function_is_not_taken_for_the_operator_it_is_called():
    """It is given from outside, and nobody looks into it."""
    kind = relax.TensorType((7, 4), "float32")
    x, made = (relax.Var(name, kind) for name in ("x", "made"))
    outside = relax.Var("relax.nn.relu", relax.FuncType([kind], kind))
    block = relax.BindingBlock([relax.VarBinding(made, relax.Call(outside, [x]))])
    function = relax.Function([x, outside], relax.SeqExpr([block], made), kind)
    verdict = check_function(function, ["x"])
    assert not verdict.accepted
    assert verdict.reason == "no rule for a call of a function; inline it"


def test_weights_that_are_examples_are_refused(graphs):
    inputs = {"x": ((4, 4), "float32"), "y": ((4, 4), "float32")}
    module = graphs.build(inputs, lambda _, x, y: relax.op.matmul(x, y))
    assert check_function(module["main"], ["x"]).accepted
    assert not check_function(module["main"], ["y"]).accepted
    assert not check_function(module["main"], ["x", "y"]).accepted


def test_the_inputs_of_examples_are_named_or_it_is_said(graphs):
    module = graphs.build({"x": ((7, 4), "float32")}, lambda _, x: relax.op.nn.relu(x))
    with pytest.raises(MyelinError, match="no input 'z' of examples; it has x"):
        check_function(module["main"], ["z"])
    with pytest.raises(MyelinError, match="Name the inputs that hold examples; there are x"):
        check_function(module["main"], [])


TERMS = {
    "epsilon": 4.0,
    "delta": 1e-4,
    "steps": 20,
    "multiplier": 1.0,
    "clip": 1.0,
    "bits": 20,
    "examples": 1437,
    "threshold": 1 << 60,
}


def test_a_certificate_says_what_was_checked_by_whom(saved, networks):
    graph = load_graph(saved(networks.small()))
    encoded = write_certificate(graph, certify(graph).verdict, Terms(**TERMS))
    document = cbor2.loads(encoded)
    assert cbor2.dumps(document, canonical=True) == encoded
    assert document["program"].hex() == graph.sha256
    assert document["checker"].hex() == checker_digest()
    assert document["batch"] == 7
    assert document["examples"] == ["x"]
    assert document["assumptions"] == list(ASSUMPTIONS)
    assert "matmul" in document["operators"]
    assert 0 < document["terms"]["cost"] <= 4
    assert {k: document["terms"][k] for k in TERMS} == TERMS
    assert "terms" not in cbor2.loads(certify(graph).certificate)


def test_another_program_or_checker_has_another_certificate(saved, networks, tmp_path, monkeypatch):
    one = certify(load_graph(saved(networks.small(), "one"))).certificate
    two = certify(load_graph(saved(networks.small(("Relu", [], {})), "two"))).certificate
    assert one != two
    copy = tmp_path / "certificate.py"
    copy.write_text("changed")
    monkeypatch.setattr(certificate_module, "__file__", str(copy))
    checker_digest.cache_clear()
    try:
        changed = certify(load_graph(saved(networks.small(), "one"))).certificate
    finally:
        checker_digest.cache_clear()
    assert changed != one


def test_a_refused_graph_has_no_certificate(saved, networks):
    graph = load_graph(saved(networks.centred()))
    checked = certify(graph)
    assert checked.certificate is None
    with pytest.raises(PrivacyError, match="there is no certificate"):
        write_certificate(graph, checked.verdict)


def test_a_dataset_smaller_than_a_batch_is_refused(saved, networks):
    graph = load_graph(saved(networks.small()))
    with pytest.raises(PrivacyError, match="5 examples does not fill the graph's 7"):
        write_certificate(graph, certify(graph).verdict, Terms(**TERMS | {"examples": 5}))


def test_the_command_accepts_and_writes_the_certificate(saved, networks, tmp_path, capsys):
    path, written = saved(networks.small()), tmp_path / "certificate"
    assert main(["myelin", "check", str(path), "--json", "--certificate", str(written)]) == 0
    document = json.loads(capsys.readouterr().out)
    assert set(document) == {"accepted", "node", "reason", "certificate"}
    assert document["accepted"] is True
    assert bytes.fromhex(document["certificate"]) == written.read_bytes()


def test_the_command_names_the_node_and_fails(saved, networks, tmp_path, capsys):
    written = tmp_path / "certificate"
    path = saved(networks.centred())
    assert main(["myelin", "check", str(path), "--json", "--certificate", str(written)]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["accepted"] is False
    assert document["node"].endswith("relax.mean")
    assert document["certificate"] is None
    assert not written.exists()
    assert main(["myelin", "check", str(path)]) == 1
    assert "refused" in capsys.readouterr().out


def test_a_relax_module_says_which_inputs_are_examples(graphs, tmp_path):

    inputs = {"x": ((7, 4), "float32"), "w": ((4, 3), "float32")}
    module = graphs.build(inputs, lambda _, x, w: relax.op.matmul(x, w))
    path = tmp_path / "net.json"
    path.write_text(tvm.ir.save_json(module))
    assert verdict_of(path, examples=["x"]).accepted
    with pytest.raises(MyelinError, match="does not say which inputs hold examples"):
        load_graph(path)
    with pytest.raises(MyelinError, match=r"one first extent, the batch, not x 7, w 4"):
        load_graph(path, examples=["x", "w"])
    with pytest.raises(MyelinError, match="no input 'y' of examples; it has x, w"):
        load_graph(path, examples=["y"])


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "cannot be read: No such file"), (b"no model", "is no ONNX model")],
)
def test_a_file_that_is_no_model_is_named(tmp_path, content, said):
    path = tmp_path / "net.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(MyelinError, match=said):
        load_graph(path)


def test_one_example_mixes_with_none_and_shows_nothing(saved, networks):
    with pytest.raises(MyelinError, match="at least 2 examples, not 1"):
        load_graph(saved(networks.small()), batch=1)
    net = networks.Net((4,), batch=1)
    net.dense(6)
    with pytest.raises(MyelinError, match="has a batch of 1; export it with an open one"):
        load_graph(saved(net.model()))
