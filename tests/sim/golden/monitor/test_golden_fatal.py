"""What leads to FATAL, and what is left there: nothing."""

import hashlib
import pickle
from dataclasses import replace

import pytest

from ginseng.golden.keygen import (
    BiasedSource,
    KeyGenerator,
    LockedSource,
    PeriodicSource,
    RandomSource,
    StuckSource,
    UdsRegister,
    attestation_key,
)
from ginseng.golden.selftest import known_answers
from ginseng.golden.tec import Tec
from ginseng.golden.vta.core import Core
from ginseng.isa.formats import MODEL_MONITOR_ROM
from ginseng.isa.keygen import CONDITIONER_SAMPLES, STARTUP_SAMPLES
from ginseng.isa.mailbox import Cause, Command, Refusal, State

#: Samples that a boot takes.
BOOT_SAMPLES = STARTUP_SAMPLES + 2 * CONDITIONER_SAMPLES


def dead(monitor):
    """Check that nothing is to be had any more."""
    assert monitor.state is State.FATAL
    assert monitor.pcrs == (bytes(32),) * 8
    assert monitor.runs == 0
    assert monitor.counters == {}
    for code in (*range(12), 255):
        assert monitor.execute(code, b"") == (Refusal.WRONG_STATE, b"")
    assert monitor.execute(Command.QUOTE, bytes(32)) == (Refusal.WRONG_STATE, b"")
    assert monitor.state is State.FATAL


def held(kit, root, secrets):
    """Return which of ``secrets`` an object still holds."""
    values = list(kit.reachable(root))
    return {name for name, secret in secrets.items() if any(secret in v for v in values)}


def test_known_answers_are_right_for_both_key_sizes():
    for bits in (128, 256):
        for answer in known_answers(bits):
            assert answer.compute() == answer.expected, answer.name
    assert known_answers(128)[0].expected != known_answers(256)[0].expected


@pytest.mark.sec("MON.SELF_TEST")
@pytest.mark.parametrize("broken", range(len(known_answers(128))))
def test_one_wrong_known_answer_stops_the_boot(power_on, broken):
    answers = list(known_answers(128))
    wrong = bytearray(answers[broken].expected)
    wrong[-1] ^= 1
    answers[broken] = replace(answers[broken], expected=bytes(wrong))
    _, monitor = power_on(boot=False, self_tests=answers)
    monitor.boot()
    assert monitor.cause is Cause.SELF_TEST
    assert answers[broken].name in monitor.fault
    dead(monitor)


def test_every_engine_has_a_known_answer():
    names = " ".join(answer.name for answer in known_answers(128))
    for engine in ("AES-GCM", "SHA-256", "HMAC_DRBG", "P-256"):
        assert engine in names


@pytest.mark.parametrize(
    "source",
    [
        StuckSource(0),
        BiasedSource(0.95, seed=1),
        PeriodicSource([0, 1, 1]),
        LockedSource(0.123456, 0.3),
        StuckSource(1, after=BOOT_SAMPLES - 100, seed=1),
    ],
    ids=["stuck", "biased", "periodic", "locked", "stuck late"],
)
def test_a_bad_source_stops_the_boot(power_on, source):
    _, monitor = power_on(boot=False, entropy=source)
    monitor.boot()
    assert monitor.cause is Cause.ENTROPY
    dead(monitor)


def test_a_source_that_fails_later_stops_the_next_session_before_it_has_a_key(power_on):
    _, monitor = power_on(entropy=StuckSource(1, after=BOOT_SAMPLES + 100, seed=1))
    assert monitor.execute(Command.BEGIN, b"") == (Refusal.WRONG_STATE, b"")
    assert monitor.cause is Cause.ENTROPY
    dead(monitor)


@pytest.mark.both
@pytest.mark.sec("MON.MEASURE_AFTER_VERIFY")
@pytest.mark.parametrize("place", ["ciphertext", "tag"])
def test_a_sealed_import_that_does_not_open_is_fatal_and_measured_nowhere(power_on, kit, place):
    host, monitor = power_on()
    host.to_locked()
    host.load_keys()
    text, tags = host.sealed(kit.MEASURED_WEIGHTS)
    if place == "ciphertext":
        text = text[:-1] + bytes([text[-1] ^ 1])
    else:
        tags = tags[:-1] + bytes([tags[-1] ^ 1])
    where = host.put_source(kit.MEASURED_WEIGHTS, text, tags)
    answer = host.call(Command.IMPORT, handle=kit.MEASURED_WEIGHTS, **where)
    assert answer == (Refusal.WRONG_STATE, b"")
    assert monitor.cause is Cause.IMPORT
    dead(monitor)


@pytest.mark.both
@pytest.mark.parametrize("handle", range(6))
@pytest.mark.parametrize("part", [0, 1])
def test_one_changed_bit_of_any_tensor_is_fatal_in_the_run_that_reads_it(
    power_on, kit, handle, part
):
    host, monitor = power_on()
    host.to_ready()
    both = list(host.fetch(handle))
    both[part] = both[part][:-1] + bytes([both[part][-1] ^ 0x10])
    host.place(handle, *both)
    output = host.fetch(kit.OUTPUT)
    assert host.run() is Refusal.WRONG_STATE
    assert monitor.cause is Cause.RUN
    assert host.fetch(kit.OUTPUT) == output
    dead(monitor)


@pytest.mark.both
def test_an_input_of_another_run_is_fatal(power_on):
    host, monitor = power_on()
    host.to_ready()
    host.place_input(2)
    assert host.run() is Refusal.WRONG_STATE
    dead(monitor)


@pytest.mark.both
@pytest.mark.sec("MON.FIXED_ENTRY")
def test_all_of_the_program_is_run_whatever_the_host_does_with_its_source(power_on, kit):
    host, monitor = power_on()
    host.to_ready()
    # The source is the host's again; the device runs what it measured.
    host.put_source(kit.PROGRAM, bytes(len(host.program.contents[kit.PROGRAM])))
    assert host.run() is Refusal.NONE
    assert host.output(1) == host.program.result(host.program.contents[kit.INPUT])
    # RUN has no argument with which to choose.
    assert monitor.execute(Command.RUN, bytes(2)) == (Refusal.WRONG_LENGTH, b"")


@pytest.mark.both
@pytest.mark.parametrize("cut", [16, -16], ids=["an instruction more", "an instruction less"])
def test_a_program_whose_last_instruction_is_not_finish_is_fatal(power_on, kit, cut):
    host, monitor = power_on()
    code = host.program.contents[kit.PROGRAM]
    code = code + code[-16:] if cut > 0 else code[:cut]
    row = host.program.rows[kit.PROGRAM]
    host.program.contents[kit.PROGRAM] = code
    host.program.rows[kit.PROGRAM] = replace(row, length=len(code))
    host.to_ready()
    assert host.run() is Refusal.WRONG_STATE
    assert monitor.cause is Cause.RUN
    dead(monitor)


@pytest.mark.sec("MON.FATAL_STICKY")
def test_nothing_but_a_reset_leaves_fatal(power_on, kit):
    host, monitor = power_on()
    host.to_ready()
    host.dram.bytes[:] = 0
    host.run()
    before = kit.snapshot(monitor)
    for _ in range(2):
        dead(monitor)
    with pytest.raises(ValueError, match="boots once"):
        monitor.boot()
    assert kit.snapshot(monitor) == before


@pytest.fixture
def planted(power_on, kit, config, identity):
    """Return a host that is ready to run, its monitor, and every secret of device and session."""
    host, monitor = power_on(seed=7)
    host.to_ready()
    twin = KeyGenerator(RandomSource(7))
    twin.start()
    twin.reseed()
    private = twin.private_key()
    owners = host.owners
    device = attestation_key(
        UdsRegister(identity.uds),
        bitstream_id=identity.bitstream_id,
        digest=config.digest,
        rom=hashlib.sha256(MODEL_MONITOR_ROM).digest(),
        svn=identity.svn,
    )

    def scalar(key):
        return key.private_numbers().private_value.to_bytes(32, "big")

    session = {
        "ephemeral key": scalar(private),
        "memory key": twin.key(16),
        "model key": owners[kit.MODEL_SLOT].secret[:16],
        "input key": owners[kit.INPUT_SLOT].session_key(host.cnf, kit.INPUT_SLOT, 16),
        "output key": owners[kit.OUTPUT_SLOT].session_key(host.cnf, kit.OUTPUT_SLOT, 16),
        "an input": host.program.contents[kit.INPUT],
        "weights": host.program.contents[kit.OPEN_WEIGHTS],
    }
    values = {"attestation key": scalar(device)}
    # Its twin is where the device's DRBG is.
    states = {v for v in kit.reachable(twin) if len(v) == 32}
    assert len(states) == 2
    values |= {f"DRBG state {n}": state for n, state in enumerate(sorted(states))}
    return host, monitor, session, values


@pytest.mark.sec("MON.ZEROIZE")
@pytest.mark.parametrize("end", ["END", "FATAL"])
def test_no_secret_outlives_its_session(planted, kit, identity, end):
    host, monitor, session, device = planted
    every = session | device
    assert host.run() is Refusal.NONE
    # A control that the search finds what is there.
    assert held(kit, monitor, every) == set(every)
    # The device secret was read once, and nobody kept it; nor an owner's whole secret.
    gone = {"device": identity.uds} | {
        str(slot): owner.secret for slot, owner in host.owners.items()
    }
    assert held(kit, monitor, gone) == set()
    if end == "END":
        host.do(Command.END)
        assert held(kit, monitor, every) == set(device)
    else:
        host.place(kit.INPUT, bytes(16), bytes(16))
        assert host.run() is Refusal.WRONG_STATE
        assert held(kit, monitor, every) == set()


@pytest.mark.parametrize("end", ["END", "FATAL"])
def test_tec_and_core_are_wiped_and_not_merely_forgotten(planted, kit, end):
    host, monitor, session, _ = planted
    assert host.run() is Refusal.NONE
    parts = [part for part in kit.objects(monitor) if isinstance(part, Tec | Core)]
    assert len(parts) == 2
    del session["ephemeral key"]
    assert held(kit, parts, session) == set(session)
    if end == "END":
        host.do(Command.END)
    else:
        host.dram.hook = lambda: host.dram.bytes.fill(0)
        host.run()
        dead(monitor)
    assert held(kit, parts, session) == set()


def test_what_fails_in_the_boot_leaves_the_device_secret_to_nobody(power_on, kit, identity):
    answers = [replace(known_answers(128)[0], expected=b"")]
    _, monitor = power_on(boot=False, self_tests=answers)
    assert held(kit, monitor, {"uds": identity.uds}) == {"uds"}
    monitor.boot()
    assert held(kit, monitor, {"uds": identity.uds}) == set()


def test_no_secret_stands_in_a_repr_and_no_monitor_is_pickled(planted):
    _, monitor, session, device = planted
    texts = [repr(monitor), str(vars(monitor))]
    for secret in (session | device).values():
        for text in texts:
            assert secret.hex() not in text
            assert repr(secret) not in text
            assert str(int.from_bytes(secret, "big")) not in text
    with pytest.raises(TypeError):
        pickle.dumps(monitor)


@pytest.mark.sec("MON.CAUSE_HIDDEN")
def test_only_a_debug_build_tells_why(power_on, kit):
    told = []
    for debug in (True, False):
        host, monitor = power_on(config=kit.make_config(debug=debug))
        assert monitor.cause is Cause.NONE
        host.to_ready()
        host.place(kit.INPUT, bytes(16), bytes(16))
        host.run()
        dead(monitor)
        told.append((monitor.cause, bool(monitor.fault)))
    assert told == [(Cause.RUN, True), (Cause.NONE, False)]
