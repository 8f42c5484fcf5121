"""The operator's side: whose turn it is, what is refused, and what a failure leaves behind."""

import threading
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ginseng.driver import DeviceTimeoutError, Monitor
from ginseng.driver.boards.model import ModelBoard
from ginseng.isa.config import BusConfig
from ginseng.isa.mailbox import State
from ginseng.program import dumps, loads
from ginseng.secureos import Limits, Runtime, SessionLostError, SessionRefusedError, errors
from ginseng.secureos.errors import (
    QueueFullError,
    SecureOsError,
    SessionError,
    TermsError,
)
from ginseng.secureos.fairness import FairQueue


@settings(max_examples=100)
@given(st.lists(st.sampled_from("abc"), max_size=30))
def test_no_client_is_served_twice_while_another_waits(pushes):
    queue, waiting = FairQueue(per_client=100), {}
    for number, client in enumerate(pushes):
        queue.push(client, (client, number))
        waiting.setdefault(client, []).append(number)
    expected = list(queue)
    served = []
    while (item := queue.pop()) is not None:
        client, number = item
        assert waiting[client].pop(0) == number, "each client's own order is kept"
        served.append(item)
    assert served == expected
    assert len(served) == len(pushes)
    for at in range(len(served) - 1):
        rest = {client for client, _ in served[at + 1 :]}
        if served[at][0] == served[at + 1][0]:
            assert rest == {served[at][0]}, "others were waiting"


def test_a_client_has_a_limit_of_waiting_sessions():
    queue = FairQueue(per_client=2)
    queue.push("a", 1)
    queue.push("a", 2)
    with pytest.raises(QueueFullError, match="Client a has 2"):
        queue.push("a", 3)
    queue.push("b", 4)
    assert queue.remove("a", 1)
    assert not queue.remove("a", 1)
    queue.push("a", 3)
    assert list(queue) == [2, 4, 3]
    assert [queue.pop() for _ in range(4)] == [2, 4, 3, None]


def test_sessions_of_several_clients_take_turns(parties):
    runtime, terms = parties.runtime, parties.terms
    first = runtime.request(terms, client="a").session
    names = [runtime.request(terms, client=client).session for client in ("a", "a", "b")]
    assert [runtime.status(name).position for name in names] == [1, 3, 2]
    assert runtime.status(names[0]).state == "queued"
    with pytest.raises(SessionError, match="waits for the device"):
        runtime.quote(names[0], bytes(32))
    order = []
    for _ in range(4):
        current = next(n for n in (first, *names) if runtime.status(n).state in ("locked", "ready"))
        order.append(current)
        runtime.end(current)
    assert order == [first, names[0], names[2], names[1]]
    assert all(runtime.status(name).state == "over" for name in names)


def test_a_waiting_session_can_be_withdrawn(parties):
    runtime, terms = parties.runtime, parties.terms
    runtime.request(terms)
    waiting = runtime.request(terms).session
    runtime.end(waiting)
    runtime.end(waiting)
    assert runtime.status(waiting).state == "over"
    with pytest.raises(SessionError, match="while it waited"):
        runtime.quote(waiting, bytes(32))


def test_an_idle_session_and_a_long_turn_end_only_when_others_wait(board, meet):
    now = [0.0]
    limits = Limits(idle_seconds=10, turn_seconds=100)
    parties = meet(board, limits=limits, clock=lambda: now[0])
    runtime, terms = parties.runtime, parties.terms
    first = runtime.request(terms, client="a").session
    now[0] = 1000.0
    runtime.quote(first, bytes(32))
    second = runtime.request(terms, client="b").session
    assert runtime.status(second).state == "locked", "a turn of 1000 s is over"
    with pytest.raises(SessionError, match="turn is over"):
        runtime.quote(first, bytes(32))
    third = runtime.request(terms, client="a").session
    now[0] = 1009.0
    runtime.quote(second, bytes(32))
    now[0] = 1018.0
    assert runtime.status(third).state == "queued"
    now[0] = 1020.0
    assert runtime.status(third).state == "locked"
    assert "idle" in runtime.status(second).reason


def test_a_fatal_session_gives_way_to_the_next(session, meet, samples):
    waiting = session.runtime.request(session.terms, client="other").session
    session.board.dram[:] ^= 1
    with pytest.raises(SessionLostError):
        session.infer(samples[:1])
    assert session.runtime.status(waiting).state == "locked"


def with_tensor(terms, name, **changes):
    """Return terms whose program has another row of the tensor table."""
    program = loads(terms.program)
    tensors = tuple(replace(t, **changes) if t.name == name else t for t in program.tensors)
    return replace(terms, program=dumps(replace(program, tensors=tensors)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda terms: with_tensor(terms, "x", measured=True), "ROW_MEASURED"),
        (lambda terms: with_tensor(terms, "code", chunk=1024), "ROW_ENTRY"),
        (lambda terms: with_tensor(terms, "hidden", length=1 << 20), "bytes are free"),
        (lambda terms: replace(terms, max_runs=0), "LOCK_RUNS"),
    ],
)
def test_terms_that_the_device_refuses_leave_it_free(parties, samples, tiny, change, message):
    with pytest.raises(SessionRefusedError, match=message):
        parties.runtime.request(change(parties.terms))
    parties.open()
    assert (parties.infer(samples[:1]) == tiny(samples[:1])).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t, p: replace(t, program=t.program[:-1]), "cut short"),
        (lambda t, p: replace(t, program=p), "in the clear"),
        (lambda t, p: replace(t, commitments=t.commitments[1:]), "exactly the slots"),
        (lambda t, p: replace(t, commitments=(*t.commitments, t.commitments[0])), "exactly"),
    ],
)
def test_terms_that_make_no_sense_are_refused_unopened(parties, tiny, change, message):
    with pytest.raises(TermsError, match=message):
        parties.runtime.request(change(parties.terms, dumps(tiny.program)))


def test_a_program_beyond_the_operators_limit_is_refused(board, meet):
    parties = meet(board, limits=Limits(program_bytes=100))
    with pytest.raises(TermsError, match="the operator takes 100"):
        parties.begin(parties.terms)


def test_unknown_sessions_and_short_challenges_are_refused(parties):
    parties.begin(parties.terms)
    with pytest.raises(SessionError, match="no such session"):
        parties.runtime.status("somebody-elses")
    with pytest.raises(SessionError, match="32 bytes, not 31"):
        parties.runtime.quote(parties.name, bytes(31))


def test_a_bare_board_is_refused(bare_config):
    with ModelBoard(bare_config) as board, pytest.raises(SessionError, match="no protection"):
        Runtime(board)


def test_closing_ends_what_is_open_and_what_waits(parties):
    parties.begin(parties.terms)
    waiting = parties.runtime.request(parties.terms).session
    with parties.runtime:
        pass
    for name in (parties.name, waiting):
        assert "closed the device" in parties.runtime.status(name).reason


def test_memory_is_given_back_after_every_session(board, meet, samples):
    parties = meet(board)
    parties.open()
    free = board.allocate(1)
    board.free(free)
    for turn in range(20):
        if turn % 3 == 2:
            board.dram[:] ^= 1
            with pytest.raises(SessionLostError):
                parties.infer(samples[:1])
        parties.renew()
    probe = board.allocate(1)
    assert probe.address == free.address


def test_a_device_that_does_not_answer_is_reset_and_the_session_lost(config, meet, samples):
    class Slow(ModelBoard):
        """Stops answering when it is told to."""

        slow = False

        def wait(self, ready, *, timeout):
            if self.slow:
                self.slow = False
                raise DeviceTimeoutError("no answer")
            super().wait(ready, timeout=timeout)

    with Slow(config) as board:
        parties = meet(board)
        parties.open()
        board.slow = True
        with pytest.raises(SessionLostError, match="no answer"):
            parties.infer(samples[:1])
        parties.renew()
        parties.infer(samples[:1])


def test_a_device_that_was_left_in_a_session_is_taken_back(board, meet):
    meet(board).begin(meet(board).terms)
    second = meet(board)
    second.open()
    assert second.runtime.status(second.name).state == "ready"


def test_the_operator_describes_its_device(parties, config):
    info = parties.runtime.describe()
    assert info.board == "model"
    assert info.config == config.canonical
    assert len(info.certificates) == 1
    assert info.simulated


def test_calls_from_several_threads_do_not_mix(session):
    """Commands share one mailbox: without the lock, answers would be each other's."""
    nonces = [bytes([n]) * 32 for n in range(24)]
    replies = {}

    def ask(nonce):
        replies[nonce] = session.runtime.quote(session.name, nonce).quote

    threads = [threading.Thread(target=ask, args=(nonce,)) for nonce in nonces]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(nonce in replies[nonce] for nonce in nonces)


def test_every_error_of_the_package_is_one_of_its_own():
    for name in errors.__all__:
        assert issubclass(getattr(errors, name), SecureOsError)


def test_a_window_too_small_for_the_program_is_refused(tiny_for, config, meet):
    small = replace(config, bus=BusConfig(window_base=1 << 20, window_bytes=4 * 4096))
    with ModelBoard(small) as board:
        parties = meet(board, network=tiny_for(small))
        with pytest.raises(SessionRefusedError, match="bytes are free"):
            parties.open()
        assert board.allocate(4 * 4096).address == 1 << 20, "nothing stays allocated"
        assert Monitor(board).state is State.IDLE
