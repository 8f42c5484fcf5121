"""Loads whose rows share long chunks, on the golden device and on the gates."""

import numpy as np
import pytest

from ginseng.benchmarks.protected_run import run_protected
from ginseng.benchmarks.tec import PROTECTED
from ginseng.compiler import Graph, lower
from ginseng.compiler.backend import lowering
from ginseng.compiler.backend.tiling import Tiling
from ginseng.compiler.graph import Value
from ginseng.compiler.operators.dense import Dense
from ginseng.compiler.rescale import Rescale
from ginseng.driver import open_board
from ginseng.secureos import local_session


def dense_graph():
    rng = np.random.default_rng(1)
    node = Dense(
        name="dense",
        inputs=("image",),
        output=Value(name="out", shape=(16,), shift=0, lo=0),
        weight=rng.integers(-128, 128, (16, 4096), np.int8),
        bias=rng.integers(-1000, 1000, 16, np.int32),
        rescale=Rescale.shifted(12),
    )
    image = Value(name="image", shape=(256, 4, 4), shift=0)
    return Graph(name="dense", inputs=(image,), nodes=(node,), outputs=("out",))


@pytest.mark.parametrize(
    "board", ["model", pytest.param("rtl", marks=[pytest.mark.rtl, pytest.mark.campaign])]
)
@pytest.mark.parametrize("in_blocks", [8, 16])
def test_rows_that_share_a_long_chunk_come_whole(monkeypatch, board, in_blocks):
    tiling = Tiling(
        rows=1,
        out_blocks=1,
        in_blocks=in_blocks,
        kernel_rows=1,
        rows_outer=False,
        inp_slots=4,
        wgt_slots=2,
        acc_slots=1,
        bias_slots=1,
    )
    monkeypatch.setattr(lowering.Layer, "tune", lambda self, *given: tiling)
    graph = dense_graph()
    program = lower(graph, PROTECTED)
    sample = np.random.default_rng(2).integers(-128, 128, (1, 256, 4, 4)).astype(np.float32)
    with (
        open_board(board, config=PROTECTED) as device,
        local_session(device, program) as session,
    ):
        assert run_protected(session, program, graph, sample)[1]
