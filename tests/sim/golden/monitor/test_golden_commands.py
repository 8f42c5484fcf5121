"""Every command in every state, and every way of asking for what is not allowed."""

import struct
from dataclasses import replace

import pytest

from ginseng.isa.config import SystemConfig
from ginseng.isa.errors import ConfigError
from ginseng.isa.mailbox import COMMANDS, Command, Refusal, State
from ginseng.isa.table import SlotUse, Source

#: State after a command that was done.
AFTER = {
    Command.BEGIN: State.CONFIG,
    Command.ROW: State.CONFIG,
    Command.SLOT: State.CONFIG,
    Command.LOCK: State.LOCKED,
    Command.QUOTE: State.LOCKED,
    Command.LOADKEY: State.LOCKED,
    Command.RUN: State.LOCKED,
    Command.END: State.IDLE,
}


def probe(execute, state):
    """Give every command that ``state`` does not take, and wrong lengths of those it does."""
    count = 0
    for code in range(256):
        spec = COMMANDS[Command(code)] if code in set(Command) else None
        length = spec.length if spec else 0
        for given in {0, 1, length - 1, length, length + 1, 256} - {-1}:
            if state is State.FATAL:
                expected = Refusal.WRONG_STATE
            elif spec is None:
                expected = Refusal.UNKNOWN_COMMAND
            elif state not in spec.states:
                expected = Refusal.WRONG_STATE
            elif given != length:
                expected = Refusal.WRONG_LENGTH
            else:
                continue
            assert execute(code, bytes(given)) == (expected, b""), (code, given)
            count += 1
    return count


def bring_to(state, host, monitor):
    """Bring a host that was powered on without booting to ``state``, the session well under way."""
    if state is State.BOOT:
        return
    monitor.boot()
    if state is State.CONFIG:
        host.begin()
        host.configure()
        host.import_plains()
    elif state is State.LOCKED:
        host.to_ready()
        assert host.run() is Refusal.NONE
        host.place_input(2)
    elif state is State.FATAL:
        host.to_ready()
        host.dram.bytes[:] = 0
        host.run()


@pytest.mark.sec("MON.STATE_GUARD")
@pytest.mark.parametrize("state", [s for s in State if s is not State.RUN])
def test_what_a_state_does_not_take_is_refused_and_changes_nothing(power_on, kit, state):
    host, monitor = power_on(boot=False)
    bring_to(state, host, monitor)
    assert monitor.state is state
    before = kit.snapshot(monitor)
    assert probe(monitor.execute, state) > 750
    assert kit.snapshot(monitor) == before
    assert monitor.state is state


def test_during_a_run_no_command_is_taken_and_none_disturbs_it(power_on, kit):
    host, monitor = power_on()
    host.to_ready()
    seen = []

    def look():
        host.dram.hook = None
        before = kit.snapshot(monitor)
        probed = probe(monitor.execute, State.RUN)
        seen.append((monitor.state, probed, kit.snapshot(monitor) == before))

    host.dram.hook = look
    assert host.run() is Refusal.NONE
    [(state, probed, unchanged)] = seen
    assert state is State.RUN
    assert probed > 750
    assert unchanged
    assert host.output(1) == host.program.result(host.program.contents[kit.INPUT])


@pytest.mark.parametrize(
    ("command", "state"),
    [(c, s) for c, spec in COMMANDS.items() for s in sorted(spec.states)],
)
def test_a_state_takes_its_commands_and_goes_where_they_lead(power_on, kit, command, state):
    host, monitor = power_on()
    match command, state:
        case Command.BEGIN, _:
            refusal, result = host.call(command)
            assert len(result) == 64
        case Command.ROW, _:
            host.begin()
            refusal, result = host.row(kit.PROGRAM)
        case Command.SLOT, _:
            host.begin()
            refusal, result = host.commit(kit.INPUT_SLOT)
        case Command.IMPORT, State.CONFIG:
            host.begin()
            host.configure()
            refusal, result = host.import_plain(kit.PROGRAM)
        case Command.IMPORT, State.LOCKED:
            host.to_locked()
            host.load_keys()
            refusal, result = host.import_sealed()
        case Command.LOCK, _:
            host.begin()
            host.configure()
            host.import_plains()
            refusal, result = host.lock(), b""
        case Command.END, State.CONFIG:
            host.begin()
            refusal, result = host.call(command)
        case _:
            host.to_ready()
            assert monitor.state is state
            if command is Command.LOADKEY:
                host.do(Command.END)
                host.to_locked()
                refusal, result = host.load_key(kit.MODEL_SLOT), b""
            elif command is Command.QUOTE:
                refusal, result = host.call(command, nonce=bytes(32))
                assert result
            else:
                refusal, result = host.call(command)
    assert refusal is Refusal.NONE
    assert monitor.state is AFTER.get(command, state)
    if command not in (Command.BEGIN, Command.QUOTE):
        assert result == b""


def test_the_snapshot_sees_every_command_that_is_done(power_on, kit):
    host, monitor = power_on()
    seen = [kit.snapshot(monitor)]

    def note():
        seen.append(kit.snapshot(monitor))

    host.begin()
    note()
    for step in (
        lambda: host.commit(kit.MODEL_SLOT),
        lambda: host.commit(kit.INPUT_SLOT),
        lambda: host.commit(kit.OUTPUT_SLOT),
        *(lambda h=h: host.row(h) for h in host.program.rows),
        *(lambda h=h: host.import_plain(h) for h in (kit.PROGRAM, kit.UOPS, kit.BIAS)),
        lambda: (host.lock(), b""),
        *(lambda s=s: (host.load_key(s), b"") for s in kit.USES),
        host.import_sealed,
        lambda: host.call(Command.END),
    ):
        assert step()[0] is Refusal.NONE
        note()
    assert len(set(seen)) == len(seen)


def test_a_monitor_without_a_tec_is_no_monitor(power_on):
    with pytest.raises(ConfigError, match="TEC"):
        power_on(config=SystemConfig(tec=None), boot=False)


def test_a_device_boots_once(power_on):
    _, monitor = power_on()
    with pytest.raises(ValueError, match="boots once"):
        monitor.boot()


def refused(kit, monitor, call):
    """Return why ``call`` was refused, having checked that nothing changed."""
    before, state = kit.snapshot(monitor), monitor.state
    answer = call()
    refusal, result = answer if isinstance(answer, tuple) else (answer, b"")
    assert refusal is not Refusal.NONE
    assert result == b""
    assert monitor.state is state
    assert kit.snapshot(monitor) == before
    return refusal


@pytest.mark.parametrize(
    ("slot", "use", "why"),
    [
        (0, SlotUse.STATIC, Refusal.SLOT_USE),
        (4, 0, Refusal.SLOT_USE),
        (4, 3, Refusal.SLOT_USE),
        (4, 4, Refusal.ILLEGAL_ARGUMENT),
        (4, 0x81, Refusal.ILLEGAL_ARGUMENT),
        (8, SlotUse.STATIC, Refusal.ILLEGAL_ARGUMENT),
        (255, SlotUse.SESSION, Refusal.ILLEGAL_ARGUMENT),
        (1, SlotUse.STATIC, Refusal.SLOT_TAKEN),
        (1, SlotUse.SESSION, Refusal.SLOT_TAKEN),
    ],
)
def test_a_slot_that_cannot_be_is_refused(power_on, kit, slot, use, why):
    host, monitor = power_on()
    host.begin()
    host.configure()
    ask = {"slot": slot, "use": int(use), "commitment": bytes(32)}
    assert refused(kit, monitor, lambda: host.call(Command.SLOT, **ask)) is why


def test_a_row_that_cannot_be_is_refused(power_on, kit):
    host, monitor = power_on()
    host.begin()
    rows = host.program.rows
    assert refused(kit, monitor, lambda: host.row(kit.INPUT)) is Refusal.ROW_SLOT
    host.configure()
    assert refused(kit, monitor, lambda: host.row(kit.BIAS)) is Refusal.ROW_DUPLICATE
    assert refused(kit, monitor, lambda: host.row(16, rows[kit.BIAS])) is Refusal.ROW_HANDLE
    assert refused(kit, monitor, lambda: host.row(9, rows[kit.BIAS])) is Refusal.ROW_OVERLAP
    second = replace(rows[kit.PROGRAM], base=0x1E000)
    assert refused(kit, monitor, lambda: host.row(9, second)) is Refusal.ROW_ENTRY
    word = rows[kit.BIAS].pack()
    stained = struct.pack("<H", 9) + word[:-1] + b"\x80"
    assert (
        refused(kit, monitor, lambda: monitor.execute(Command.ROW, stained)) is Refusal.ROW_RESERVED
    )


@pytest.mark.both
@pytest.mark.sec("MON.IMPORT_STATE")
def test_an_import_at_the_wrong_time_is_refused(power_on, kit):
    host, monitor = power_on()
    host.begin()
    assert refused(kit, monitor, lambda: ask_import(host, kit.PROGRAM)) is Refusal.IMPORT_ROW
    host.configure()
    # A sealed source waits for LOCK; unmeasured weights, inputs and outputs are never imported.
    for handle in (kit.MEASURED_WEIGHTS, kit.OPEN_WEIGHTS, kit.INPUT, kit.OUTPUT, 15, 999):
        assert refused(kit, monitor, lambda h=handle: ask_import(host, h)) is Refusal.IMPORT_ROW
    host.import_plains()
    assert host.lock() is Refusal.NONE
    for handle in (kit.PROGRAM, kit.UOPS, kit.BIAS, kit.OPEN_WEIGHTS, 15):
        assert refused(kit, monitor, lambda h=handle: ask_import(host, h)) is Refusal.IMPORT_ROW


def ask_import(host, handle):
    return host.call(Command.IMPORT, handle=handle, source=host.dram.base + 0xE000)


@pytest.mark.both
def test_an_import_is_done_once_and_in_order(power_on, kit):
    host, monitor = power_on()
    host.begin()
    host.configure()
    assert host.import_plain(kit.PROGRAM)[0] is Refusal.NONE
    again = lambda: ask_import(host, kit.PROGRAM)  # noqa: E731
    assert refused(kit, monitor, again) is Refusal.IMPORT_ORDER
    assert host.import_plain(kit.BIAS)[0] is Refusal.NONE
    late = lambda: ask_import(host, kit.UOPS)  # noqa: E731
    assert refused(kit, monitor, late) is Refusal.IMPORT_ORDER
    # What was passed over can no longer be imported, so the table cannot be locked.
    assert refused(kit, monitor, host.lock) is Refusal.LOCK_IMPORT


@pytest.mark.both
def test_a_sealed_import_needs_its_key_and_is_done_once(power_on, kit):
    host, monitor = power_on()
    host.to_locked()
    where = host.put_source(kit.MEASURED_WEIGHTS, *host.sealed(kit.MEASURED_WEIGHTS))
    ask = lambda: host.call(Command.IMPORT, handle=kit.MEASURED_WEIGHTS, **where)  # noqa: E731
    assert refused(kit, monitor, ask) is Refusal.IMPORT_KEY
    host.load_keys()
    assert ask()[0] is Refusal.NONE
    assert refused(kit, monitor, ask) is Refusal.IMPORT_ORDER


@pytest.mark.both
@pytest.mark.parametrize("offset", [-0x80, 0x10000 - 0x40, 0x10000, 0x1000, 0x1080, 0x2040])
def test_a_source_outside_dram_or_inside_a_row_is_refused(power_on, kit, offset):
    host, monitor = power_on()
    host.begin()
    host.configure()
    ask = {"handle": kit.PROGRAM, "source": host.dram.base + offset}
    assert refused(kit, monitor, lambda: host.call(Command.IMPORT, **ask)) is Refusal.IMPORT_SOURCE


@pytest.mark.both
def test_only_the_imported_program_can_be_locked_and_only_for_some_runs(power_on, kit):
    host, monitor = power_on()
    host.begin()
    host.configure()
    assert refused(kit, monitor, host.lock) is Refusal.LOCK_ENTRY
    assert host.import_plain(kit.PROGRAM)[0] is Refusal.NONE
    assert refused(kit, monitor, host.lock) is Refusal.LOCK_IMPORT
    for handle in (kit.UOPS, kit.BIAS):
        assert host.import_plain(handle)[0] is Refusal.NONE
    for entry in (kit.UOPS, kit.BIAS, kit.INPUT, 15, 0xFFFF):
        assert refused(kit, monitor, lambda e=entry: host.lock(entry=e)) is Refusal.LOCK_ENTRY
    assert refused(kit, monitor, lambda: host.lock(max_runs=0)) is Refusal.LOCK_RUNS
    assert host.lock(max_runs=(1 << 48) - 1) is Refusal.NONE


@pytest.mark.both
def test_a_run_waits_for_every_key_and_every_import(power_on, kit):
    host, monitor = power_on()
    host.to_locked()
    for slot in kit.USES:
        assert refused(kit, monitor, host.run) is Refusal.RUN_KEY
        assert host.load_key(slot) is Refusal.NONE
    assert refused(kit, monitor, host.run) is Refusal.RUN_IMPORT
    assert host.import_sealed()[0] is Refusal.NONE
    host.place_weights()
    host.place_input(1)
    assert host.run() is Refusal.NONE


@pytest.mark.both
@pytest.mark.sec("MON.RUN_LIMIT")
@pytest.mark.parametrize("limit", [1, 3])
def test_no_run_is_done_beyond_the_limit(power_on, kit, limit):
    host, monitor = power_on()
    host.to_ready(max_runs=limit)
    for run in range(1, limit + 1):
        host.place_input(run)
        assert host.run() is Refusal.NONE
        assert monitor.runs == run
    for _ in range(3):
        assert refused(kit, monitor, host.run) is Refusal.RUN_LIMIT
    assert monitor.runs == limit


@pytest.mark.both
def test_rows_may_be_loaded_in_any_order_and_measure_the_same(power_on, kit):
    host, monitor = power_on()
    host.begin()
    for slot in reversed(kit.USES):
        assert host.commit(slot)[0] is Refusal.NONE
    for handle in sorted(host.program.rows, reverse=True):
        assert host.row(handle)[0] is Refusal.NONE
    host.import_plains()
    assert host.lock() is Refusal.NONE
    assert list(monitor.pcrs) == kit.expected_registers(host, 2)


@pytest.mark.both
def test_placement_is_the_hosts_business_and_everything_else_is_measured(power_on, kit):
    host, monitor = power_on()
    host.to_locked()
    reference = monitor.pcrs
    rows = dict(host.program.rows)

    def locked_with(handle, **changes):
        host.do(Command.END)
        host.program.rows[handle] = replace(rows[handle], **changes)
        host.to_locked()
        host.program.rows[handle] = rows[handle]
        return monitor.pcrs

    assert locked_with(kit.OUTPUT, base=0x1E000) == reference
    for handle, changes in (
        (kit.OUTPUT, {"length": 32}),
        (kit.OUTPUT, {"measured": 0}),
        (kit.OPEN_WEIGHTS, {"chunk": 64}),
        (kit.OPEN_WEIGHTS, {"version": 8}),
        (kit.OPEN_WEIGHTS, {"measured": 1}),
        (kit.INPUT, {"slot": kit.OUTPUT_SLOT}),
    ):
        assert locked_with(handle, **changes)[2] != reference[2]
    assert host.program.rows[kit.BIAS].source is Source.PLAIN
