"""Protected runs one after the other on the board rtl, whatever its memory does, bit for bit."""

import random
from dataclasses import replace

import numpy as np
import pytest

from ginseng.driver.boards.rtl import RtlBoard
from ginseng.secureos import local_session

pytestmark = pytest.mark.rtl


def soak(tiny, rough, *, sessions, runs, seed):
    """Open sessions, each on a board of its own memory; return how many runs were right."""
    right = 0
    for number in range(sessions):
        rng = random.Random(f"{seed} {number}")
        samples = np.random.default_rng([seed, number]).uniform(
            -4, 4, (runs, *tiny.program.inputs[0].shape)
        )
        memory = replace(
            rough(rng.getrandbits(32)),
            reads=rng.choice([1, 2, 8]),
            writes=rng.choice([1, 4]),
            mix=rng.random() < 0.5,
        )
        with (
            RtlBoard(tiny.program.config, memory=memory) as board,
            local_session(board, tiny.program) as session,
        ):
            for sample in samples:
                assert np.array_equal(session.infer(sample[None]), tiny(sample[None])), memory
                right += 1
            # Raises if a rule of AXI was broken.
            assert board.traffic.write_bursts
    return right


def test_some_protected_runs_are_right_whatever_memory_does(tiny, rough, record_property):
    record_property("trials", soak(tiny, rough, sessions=3, runs=4, seed=1))


@pytest.mark.campaign
@pytest.mark.parametrize(("sessions", "runs"), [(1, 1_000), (50, 20)], ids=["one", "fifty"])
def test_a_thousand_protected_runs_are_right_whatever_memory_does(
    tiny, rough, sessions, runs, record_property
):
    """In one session, whose counters never start again, and in fifty, each with another memory."""
    count = soak(tiny, rough, sessions=sessions, runs=runs, seed=2)
    assert count == 1_000
    record_property("trials", count)
