"""The board rtl: the bare build in gates, and core and TEC in gates behind the golden monitor."""

import numpy as np
import pytest

from ginseng.driver import BoardError, SimulatedBoard, open_board
from ginseng.driver.bare import read_counters
from ginseng.driver.board import read_register
from ginseng.driver.boards.rtl import RtlBoard
from ginseng.isa.config import SystemConfig
from ginseng.secureos import local_session
from ginseng.secureos.attacks import run_attacks

pytestmark = pytest.mark.rtl


def test_both_builds_open_by_name_and_say_what_is_simulated(config):
    bare_config = SystemConfig(tec=None)
    with open_board("rtl", config=config) as board, open_board("rtl", config=bare_config) as bare:
        for one, build in ((board, config), (bare, bare_config)):
            assert isinstance(one, SimulatedBoard)
            assert read_register(one, "digest").to_bytes(32, "little") == build.digest
        assert board.simulated[0] == "VTA core and TEC: gates in Verilator"
        assert any("monitor" in line and "Python models" in line for line in board.simulated)
        assert any("reference memory model" in line for line in board.simulated)
        assert len(board.attestation_public_key()) == 64
        with pytest.raises(BoardError, match="no attestation key"):
            bare.attestation_public_key()
        assert set(read_counters(bare)) >= {"cycles", "gemm_uops", "read_bytes"}


def test_a_closed_board_says_so(config):
    board = RtlBoard(config)
    board.close()
    board.close()
    with pytest.raises(BoardError, match="is closed"):
        board.read(0)


def test_the_gates_compute_what_the_network_computes_and_attacks_are_stopped(tiny, samples):
    with (
        open_board("rtl", config=tiny.program.config) as board,
        local_session(board, tiny.program) as session,
    ):
        assert np.array_equal(session.infer(samples), tiny(samples))
        assert session.cycles > 0
        results = run_attacks(session, samples)
    assert {result.outcome for result in results} == {"fatal", "refused"}


@pytest.mark.campaign
def test_waveforms_are_written_where_they_were_asked_for(tmp_path, tiny, samples):
    path = tmp_path / "run.vcd"
    with (
        open_board("rtl", config=tiny.program.config, trace=path) as board,
        local_session(board, tiny.program) as session,
    ):
        assert str(path) in board.waves
        session.infer(samples[:1])
    text = path.read_text()
    assert text.startswith("$version")
    assert "insn_count" in text


def test_a_board_without_waveforms_says_so(config, tmp_path):
    with pytest.raises(BoardError, match="use --board rtl"):
        open_board("model", config=config, trace=tmp_path / "run.vcd")
