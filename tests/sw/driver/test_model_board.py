from dataclasses import replace

import numpy as np
import pytest

from ginseng.driver import (
    BoardError,
    ConfigMismatchError,
    DeviceTimeoutError,
    Monitor,
    SimulatedBoard,
    open_board,
)
from ginseng.driver.board import check_identity, read_register
from ginseng.driver.boards.model import ModelBoard
from ginseng.golden.keygen import DeviceIdentity
from ginseng.isa.config import CoreConfig
from ginseng.isa.mailbox import State


def test_the_model_board_opens_by_name_and_is_the_build_that_was_asked_for(config, bare_config):
    for build in (config, bare_config):
        with open_board("model", config=build) as board:
            assert isinstance(board, SimulatedBoard)
            assert board.config == build
            assert read_register(board, "digest").to_bytes(32, "little") == build.digest


def test_an_unknown_board_is_refused_with_the_known_names():
    with pytest.raises(BoardError, match=r"'pinq' is not known \(boards: .*model"):
        open_board("pinq")


def test_another_configuration_is_refused(config, bare_config):
    with ModelBoard(config) as board:
        other = replace(config, core=CoreConfig(log_inp_buff_size=14))
        with pytest.raises(ConfigMismatchError, match="compile for the board"):
            check_identity(board, other)
        with pytest.raises(ConfigMismatchError, match="not a bare build"):
            check_identity(board, bare_config)


def test_what_is_simulated_is_said(config, bare_config):
    with ModelBoard(config) as board, ModelBoard(bare_config) as bare:
        assert any("root of trust" in line for line in board.simulated)
        assert any("entropy" in line for line in board.simulated)
        assert bare.simulated
        assert all("no gates" in board.simulated[0] for board in (board, bare))


def test_buffers_and_the_whole_window_are_the_same_bytes(config):
    with ModelBoard(config) as board:
        board.allocate(100)
        buffer = board.allocate(5000)
        buffer.view[:] = 7
        at = buffer.address - config.bus.window_base
        assert buffer.view.shape == (5000,)
        assert (board.dram[at : at + 5000] == 7).all()
        board.dram[at] = 9
        assert buffer.view[0] == 9
        assert len(board.dram) == config.bus.window_bytes
        board.free(buffer)
        assert board.allocate(4096).address == buffer.address


def test_a_board_without_room_names_what_is_left(config):
    with ModelBoard(config) as board, pytest.raises(BoardError, match="bytes are free"):
        board.allocate(config.bus.window_bytes + 1)


def test_each_board_is_a_device_of_its_own_unless_the_identity_is_given(config):
    identity = DeviceIdentity(bytes(range(32)))
    keys = [ModelBoard(config, identity=identity).attestation_public_key() for _ in range(2)]
    assert keys[0] == keys[1]
    assert len(keys[0]) == 64
    assert ModelBoard(config).attestation_public_key() not in keys
    assert "0102" not in repr(ModelBoard(config, identity=identity))


def test_a_bare_board_has_no_attestation_key(bare_config):
    with ModelBoard(bare_config) as board, pytest.raises(BoardError, match="no attestation key"):
        board.attestation_public_key()


def test_waiting_ends_with_the_time(config):
    with ModelBoard(config) as board:
        board.wait(lambda: True, timeout=0)
        with pytest.raises(DeviceTimeoutError, match=r"within 0\.02 s"):
            board.wait(lambda: False, timeout=0.02)


def test_a_closed_board_cannot_be_used(config):
    board = ModelBoard(config)
    board.close()
    board.close()
    for use in (lambda: board.read(0), lambda: board.write(8, 1), lambda: board.allocate(1)):
        with pytest.raises(BoardError, match="closed"):
            use()


def test_a_reset_leaves_dram_and_ends_the_session(config):
    with ModelBoard(config) as board:
        monitor = Monitor(board)
        monitor.begin()
        assert monitor.state is State.CONFIG
        board.dram[5] = 1
        monitor.reset()
        assert monitor.state is State.IDLE
        assert board.dram[5] == 1
        assert np.count_nonzero(board.dram) == 1
