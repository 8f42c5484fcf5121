"""The model's device takes commands in their states only, and LOCK closes the configuration."""

import itertools

import pytest
from protocol_model.device import Device, RefusedError, Session
from protocol_model.protocol import DUMP, Setup, Slot
from protocol_model.scenarios import HOST_SECRET, HOST_VALUE, SCENARIOS
from protocol_model.search import ALL_ON
from protocol_model.terms import const

from ginseng.isa.mailbox import Refusal, State

DEVICE = Device(ALL_ON)
#: Public weights: two plain imports, so that their order can be tried too.
AGREED = SCENARIOS["client returns"].agreement


def steps(session: Session) -> list[Session]:
    """All sessions that one CONFIG command of the menu leads to."""
    rows = AGREED.rows
    slots = [
        *AGREED.slots,
        *(Slot(s.slot, s.use, HOST_SECRET.commitment) for s in AGREED.slots),
    ]
    imports = [*AGREED.contents, (0, DUMP), (1, HOST_VALUE)]
    calls = [
        *((DEVICE.row, (row,)) for row in rows),
        *((DEVICE.slot, (slot,)) for slot in slots),
        *((lambda s, h, c: DEVICE.import_(s, h, c)[0], item) for item in imports),
        *((DEVICE.lock, (entry, runs)) for entry in (0, 1) for runs in (0, 1, 2)),
    ]
    after = []
    for call, arguments in calls:
        try:
            after.append(call(session, *arguments))
        except RefusedError:
            continue
    return after


def opened(setup: Setup) -> Session:
    """The session that the search opens in one move."""
    session = DEVICE.begin("A", 0)
    for row in setup.rows:
        session = DEVICE.row(session, row)
    for slot in setup.slots:
        session = DEVICE.slot(session, slot)
    for handle, content in setup.contents:
        session, _ = DEVICE.import_(session, handle, content)
    return DEVICE.lock(session, setup.entry, setup.max_runs)


@pytest.fixture(scope="module")
def locked() -> list[Session]:
    """Every locked session that any order of single commands reaches."""
    seen = {DEVICE.begin("A", 0)}
    todo = list(seen)
    while todo:
        for after in steps(todo.pop()):
            if after not in seen:
                seen.add(after)
                todo.append(after)
    return [session for session in seen if session.state is State.LOCKED]


def test_every_order_of_commands_locks_what_one_move_of_the_search_locks(locked: list[Session]):
    assert len(locked) > 100
    assert all(session == opened(session.setup) for session in locked)


def test_no_two_setups_have_the_same_registers(locked: list[Session]):
    pairs = itertools.groupby(sorted(locked, key=lambda s: str(s.pcrs)), key=lambda s: s.pcrs)
    assert all(len({session.setup for session in group}) == 1 for _, group in pairs)


def test_lock_closes_the_configuration():
    session = opened(AGREED)
    for call in (
        lambda: DEVICE.row(session, SCENARIOS["two programs"].agreement.rows[-1]),
        lambda: DEVICE.slot(session, Slot(5, AGREED.slots[0].use, HOST_SECRET.commitment)),
        lambda: DEVICE.lock(session, 0, 1),
        lambda: DEVICE.import_(session, *AGREED.contents[0]),
    ):
        with pytest.raises(RefusedError, match=Refusal.WRONG_STATE.name):
            call()


def test_nothing_can_be_asked_of_a_session_that_ended():
    session = DEVICE.end(opened(AGREED))
    for call in (
        lambda: DEVICE.quote(session, const("challenge")),
        lambda: DEVICE.can_run(session),
        lambda: DEVICE.lock(session, 0, 1),
    ):
        with pytest.raises(RefusedError, match=Refusal.WRONG_STATE.name):
            call()
