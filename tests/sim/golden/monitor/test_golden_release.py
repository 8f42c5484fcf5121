"""Keys are released into one session of one device for one program, or not at all."""

import pytest
from Crypto.Protocol import HPKE
from Crypto.PublicKey import ECC

from ginseng.isa.formats import loadkey_info
from ginseng.isa.mailbox import Command, Refusal, State
from ginseng.isa.table import SlotUse


def refused(kit, monitor, argument):
    """Return why LOADKEY refused ``argument``, having checked that nothing changed."""
    before = kit.snapshot(monitor)
    refusal, result = monitor.execute(Command.LOADKEY, argument)
    assert refusal is not Refusal.NONE
    assert result == b""
    assert monitor.state is State.LOCKED
    assert kit.snapshot(monitor) == before
    return refusal


@pytest.fixture
def locked(power_on):
    host, monitor = power_on()
    host.to_locked()
    return host, monitor


def test_every_changed_byte_of_a_message_is_refused(locked, kit):
    host, monitor = locked
    message = host.message(kit.MODEL_SLOT)
    assert len(message) == 65 + 81
    for at in range(len(message)):
        changed = bytearray(message)
        changed[at] ^= 1 << at % 8
        assert monitor.execute(Command.LOADKEY, bytes(changed)) == (Refusal.KEY_REFUSED, b"")
    assert host.load_key(kit.MODEL_SLOT) is Refusal.NONE


def test_an_owner_may_use_another_hpke_library(locked, kit):
    host, monitor = locked
    x, y = (int.from_bytes(host.cnf[at : at + 32], "big") for at in (0, 32))
    for slot in kit.USES:
        context = HPKE.new(
            receiver_key=ECC.construct(curve="P-256", point_x=x, point_y=y),
            aead_id=HPKE.AEAD.AES128_GCM,
            info=host.info,
        )
        owner = host.owners[slot]
        sealed = context.seal(bytes([slot]) + owner.secret + owner.blinding)
        assert monitor.execute(Command.LOADKEY, context.enc + sealed) == (Refusal.NONE, b"")
    assert host.import_sealed()[0] is Refusal.NONE
    host.place_weights()
    host.place_input(1)
    assert host.run() is Refusal.NONE
    assert host.output(1) == host.program.result(host.program.contents[kit.INPUT])


@pytest.mark.parametrize(
    "enc",
    [
        bytes(65),
        b"\x04" + bytes(64),
        b"\x04" + b"\xff" * 64,
        b"\x04" + bytes(63) + b"\x01",
        b"\x02" + bytes(31) + b"\x05" + bytes(32),
    ],
    ids=["zeros", "origin", "beyond the field", "off the curve", "compressed"],
)
def test_a_point_that_is_no_public_key_is_refused(locked, kit, enc):
    host, monitor = locked
    argument = enc + host.message(kit.MODEL_SLOT)[65:]
    assert refused(kit, monitor, argument) is Refusal.KEY_REFUSED


@pytest.mark.sec("MON.LOADKEY_BINDING")
def test_a_message_for_anything_else_than_this_session_is_refused(locked, kit):
    host, monitor = locked
    slot = kit.MODEL_SLOT
    assert refused(kit, monitor, host.message(slot, info=b"")) is Refusal.KEY_REFUSED
    assert refused(kit, monitor, host.message(slot, info=loadkey_info(bytes(32)))) is (
        Refusal.KEY_REFUSED
    )
    old = host.message(slot)
    host.do(Command.END)
    host.to_locked()
    # The same measurements, another session: its private key is gone.
    assert refused(kit, monitor, old) is Refusal.KEY_REFUSED
    # Sealed to the new key by an owner who believes in the old one.
    assert host.load_key(slot) is Refusal.NONE


def test_one_more_run_allowed_is_another_session_for_the_owner(power_on, kit):
    host, monitor = power_on()
    host.to_locked(max_runs=5)
    honest, host.info = host.info, b""
    host.do(Command.END)
    host.to_locked(max_runs=6)
    assert refused(kit, monitor, host.message(kit.MODEL_SLOT, info=honest)) is Refusal.KEY_REFUSED


@pytest.mark.sec("MON.COMMITMENT")
def test_a_secret_other_than_the_committed_one_is_refused(locked, kit):
    host, monitor = locked
    owner = host.owners[kit.MODEL_SLOT]
    for liar in (
        kit.Owner(bytes(32), owner.blinding),
        kit.Owner(owner.secret, bytes(32)),
        host.owners[kit.INPUT_SLOT],
        kit.Owner(bytes(32), bytes(32)),
    ):
        message = host.message(kit.MODEL_SLOT, owner=liar)
        assert refused(kit, monitor, message) is Refusal.KEY_REFUSED
    assert host.load_key(kit.MODEL_SLOT) is Refusal.NONE


@pytest.mark.sec("MON.KEY_ONCE")
def test_a_slot_that_cannot_be_loaded_is_refused(locked, kit):
    host, monitor = locked
    for slot in (0, 4, 7, 8, 255):
        message = host.message(kit.MODEL_SLOT, named=slot)
        assert refused(kit, monitor, message) is Refusal.KEY_SLOT
    assert host.load_key(kit.MODEL_SLOT) is Refusal.NONE
    assert refused(kit, monitor, host.message(kit.MODEL_SLOT)) is Refusal.KEY_SLOT
    # Which of the two is wrong does not depend on the secret.
    message = host.message(kit.MODEL_SLOT, owner=kit.Owner(bytes(32), bytes(32)))
    assert refused(kit, monitor, message) is Refusal.KEY_SLOT
    # Not even the committed secret under another slot's number.
    message = host.message(kit.MODEL_SLOT, named=kit.INPUT_SLOT)
    assert refused(kit, monitor, message) is Refusal.KEY_REFUSED


@pytest.mark.sec("MON.SLOTS_MEASURED")
@pytest.mark.parametrize("kind", ["more", "fewer", "own key", "other use"])
def test_a_host_that_changes_the_slots_is_seen_by_every_owner(power_on, kit, kind):
    host, monitor = power_on()
    host.to_locked()
    honest, reference = host.info, monitor.pcrs
    host.do(Command.END)
    host.begin()
    for slot, use in kit.USES.items():
        commitment = host.owners[slot].commitment
        if kind == "own key" and slot == kit.OUTPUT_SLOT:
            commitment = kit.Owner(b"h" * 32, b"b" * 32).commitment
        if kind == "fewer" and slot == kit.OUTPUT_SLOT:
            continue
        ask = {"slot": slot, "use": int(use), "commitment": commitment}
        host.do(Command.SLOT, **ask)
    if kind == "more":
        host.do(Command.SLOT, slot=7, use=int(SlotUse.SESSION), commitment=bytes(32))
    for handle, row in host.program.rows.items():
        if kind == "fewer" and row.slot == kit.OUTPUT_SLOT:
            assert host.row(handle)[0] is Refusal.ROW_SLOT
        elif kind == "other use" and row.slot == kit.OUTPUT_SLOT:
            continue
        else:
            assert host.row(handle)[0] is Refusal.NONE
    host.import_plains()
    assert host.lock() is Refusal.NONE
    if kind != "other use":
        assert monitor.pcrs[7] != reference[7]
    assert monitor.pcrs != reference
    for slot in (kit.MODEL_SLOT, kit.INPUT_SLOT):
        message = host.message(slot, info=honest)
        assert refused(kit, monitor, message) is Refusal.KEY_REFUSED


def test_a_slot_that_stays_empty_stops_every_run(locked, kit):
    host, _ = locked
    assert host.load_key(kit.MODEL_SLOT) is Refusal.NONE
    assert host.load_key(kit.INPUT_SLOT) is Refusal.NONE
    assert host.import_sealed()[0] is Refusal.NONE
    assert host.run() is Refusal.RUN_KEY


def test_a_sealed_import_does_not_change_what_keys_are_bound_to(locked, kit):
    host, _ = locked
    assert host.load_key(kit.MODEL_SLOT) is Refusal.NONE
    assert host.import_sealed()[0] is Refusal.NONE
    for slot in (kit.INPUT_SLOT, kit.OUTPUT_SLOT):
        assert host.load_key(slot) is Refusal.NONE
