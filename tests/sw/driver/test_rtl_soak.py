"""Protected runs one after the other on the board rtl, whatever its memory does, bit for bit."""

import random

import numpy as np
import pytest

from ginseng.bench.memory import MemoryModel
from ginseng.driver.boards.rtl import RtlBoard
from ginseng.secureos import local_session

pytestmark = pytest.mark.rtl


def rough(rng):
    """Up to 500 cycles of latency, answers mixed, channels that pause more often than not."""
    return MemoryModel(
        name="rough",
        latency=(0, rng.choice([0, 7, 60, 500])),
        reads=rng.choice([1, 2, 8]),
        writes=rng.choice([1, 4]),
        mix=rng.random() < 0.5,
        stall=tuple(rng.choice([0.0, 0.3, 0.8]) for _ in range(5)),
        seed=rng.getrandbits(32),
    )


def soak(tiny, *, sessions, runs, seed):
    """Open sessions, each on a board of its own memory; return how many runs were right."""
    right = 0
    for number in range(sessions):
        rng = random.Random(f"{seed} {number}")
        samples = np.random.default_rng([seed, number]).uniform(-4, 4, (runs, 20))
        memory = rough(rng)
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


def test_some_protected_runs_are_right_whatever_memory_does(tiny, record_property):
    record_property("trials", soak(tiny, sessions=3, runs=4, seed=1))


@pytest.mark.campaign
@pytest.mark.parametrize(("sessions", "runs"), [(1, 1_000), (50, 20)], ids=["one", "fifty"])
def test_a_thousand_protected_runs_are_right_whatever_memory_does(
    tiny, sessions, runs, record_property
):
    """In one session, whose counters never start again, and in fifty, each with another memory."""
    count = soak(tiny, sessions=sessions, runs=runs, seed=2)
    assert count == 1_000
    record_property("trials", count)
