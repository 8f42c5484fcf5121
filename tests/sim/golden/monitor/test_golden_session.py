"""Whole sessions: owners seal, the monitor runs, owners open."""

import hashlib
import random
import struct

import cbor2
import numpy as np
import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256

from ginseng.golden.attest import public_bytes
from ginseng.golden.keygen import attestation_public_key
from ginseng.golden.vta.schedule import RandomScheduler
from ginseng.isa.config import Memory
from ginseng.isa.formats import ClaimLabel
from ginseng.isa.mailbox import Command, Refusal, State


def claims_of(quote):
    return cbor2.loads(cbor2.loads(quote).value[2])


@pytest.mark.parametrize("key_bits", [128, 256])
@pytest.mark.parametrize("lazy", [False, True])
def test_a_protected_run_gives_the_result_to_its_owner_alone(power_on, kit, key_bits, lazy):
    config = kit.make_config(key_bits)
    host, monitor = power_on(config=config, lazy=lazy)
    host.to_ready()
    assert host.run() is Refusal.NONE
    program = host.program
    result = program.result(program.contents[kit.INPUT])
    assert host.output(1) == result
    assert monitor.state is State.LOCKED
    # Nobody else's key opens it, and not under another run's number.
    for wrong in (host.owners[kit.OUTPUT_SLOT].secret[: host.key_bytes], bytes(host.key_bytes)):
        with pytest.raises(InvalidTag):
            kit.open_sealed(wrong, program.rows[kit.OUTPUT], kit.OUTPUT, 1, *host.fetch(kit.OUTPUT))
    with pytest.raises(InvalidTag):
        host.output(2)
    # No plaintext of a secret tensor lies in DRAM, not even 8 bytes of one.
    dram = host.dram.bytes.tobytes()
    secrets = [program.contents[h] for h in (kit.OPEN_WEIGHTS, kit.MEASURED_WEIGHTS, kit.INPUT)]
    for secret in [*secrets, result]:
        for at in range(0, len(secret) - 7, 8):
            assert secret[at : at + 8] not in dram


@pytest.mark.parametrize("seed", range(6))
def test_the_result_does_not_depend_on_the_order_of_steps(power_on, kit, seed):
    host, _ = power_on(lazy=True, scheduler=RandomScheduler(seed))
    host.to_ready()
    assert host.run() is Refusal.NONE
    assert host.output(1) == host.program.result(host.program.contents[kit.INPUT])


@pytest.mark.both
def test_each_run_takes_its_own_input_and_makes_its_own_output(power_on, kit):
    host, _ = power_on()
    host.to_ready(max_runs=3)
    randomness = random.Random(1)
    for run in (1, 2, 3):
        x = randomness.randbytes(16)
        host.place_input(run, x)
        assert host.run() is Refusal.NONE
        assert host.output(run) == host.program.result(x)


@pytest.mark.both
def test_what_is_imported_lies_in_dram_sealed_under_no_key_that_an_owner_has(power_on, kit):
    host, _ = power_on()
    host.to_ready()
    row = host.program.rows[kit.MEASURED_WEIGHTS]
    text, tags = host.fetch(kit.MEASURED_WEIGHTS)
    assert text != host.sealed(kit.MEASURED_WEIGHTS)[0]
    key = host.owners[kit.MODEL_SLOT].secret[: host.key_bytes]
    for version in range(12):
        with pytest.raises(InvalidTag):
            kit.open_sealed(key, row, kit.MEASURED_WEIGHTS, version, text, tags)


@pytest.mark.both
def test_the_registers_are_what_the_owners_compute(power_on, kit):
    host, monitor = power_on()
    host.to_locked(max_runs=5)
    locked = kit.expected_registers(host, 5)
    assert list(monitor.pcrs) == locked
    host.load_keys()
    assert list(monitor.pcrs) == locked
    assert host.import_sealed()[0] is Refusal.NONE
    assert list(monitor.pcrs) == kit.expected_registers(host, 5, sealed=True)


def test_the_rom_of_gates_can_stand_in_for_the_model(power_on, kit):
    host, monitor = power_on(monitor_rom=b"a real one")
    host.to_locked()
    assert list(monitor.pcrs) == kit.expected_registers(host, 2, monitor_rom=b"a real one")


@pytest.mark.both
def test_a_run_is_measured_with_its_exports(power_on, kit):
    host, monitor = power_on()
    host.to_ready()
    pcr = bytes(32)
    for run in (1, 2):
        host.place_input(run)
        assert host.run() is Refusal.NONE
        text, tag = host.fetch(kit.OUTPUT)
        stream = struct.pack(">HI", kit.OUTPUT, 0) + text + tag
        event = struct.pack(">Q", run) + hashlib.sha256(stream).digest()
        inner = hashlib.sha256(struct.pack(">BHQ", 7, 0, len(event)) + event).digest()
        pcr = hashlib.sha256(pcr + inner).digest()
        assert monitor.pcrs[6] == pcr
    assert list(monitor.pcrs[:6]) == kit.expected_registers(host, 2, sealed=True)[:6]


def test_a_quote_says_what_the_session_is(power_on, kit, config, identity):
    host, monitor = power_on()
    host.to_ready()
    nonce = hashlib.sha256(b"fresh").digest()
    for runs in (0, 1):
        if runs:
            assert host.run() is Refusal.NONE
        claims = claims_of(host.do(Command.QUOTE, nonce=nonce))
        assert claims[ClaimLabel.EAT_NONCE] == nonce
        key = claims[ClaimLabel.CNF]
        assert key[-2] + key[-3] == host.cnf
        assert claims[ClaimLabel.MEASUREMENTS][0][1] == b"".join(monitor.pcrs)
        assert claims[ClaimLabel.RUNS] == runs.to_bytes(8, "big")
        assert claims[ClaimLabel.SVN] == identity.svn.to_bytes(8, "big")
        assert claims[ClaimLabel.ENTROPY_HEALTH] == b"\1"
        point = public_bytes(attestation_public_key(config, identity))
        assert claims[ClaimLabel.UEID] == b"\1" + hashlib.sha256(point).digest()


def test_the_key_that_is_certified_is_the_key_that_signs(power_on, config, identity):
    host, _ = power_on()
    host.to_locked()
    protected, _, payload, signature = cbor2.loads(host.do(Command.QUOTE, nonce=bytes(32))).value
    r, s = (int.from_bytes(signature[n : n + 32], "big") for n in (0, 32))
    attestation_public_key(config, identity).verify(
        encode_dss_signature(r, s),
        cbor2.dumps(["Signature1", protected, b"", payload]),
        ec.ECDSA(SHA256()),
    )


@pytest.mark.both
@pytest.mark.sec("MON.FRESH_SESSION")
def test_every_session_has_keys_and_registers_of_its_own(power_on, kit):
    host, monitor = power_on()
    seen = []
    for _ in range(3):
        host.to_ready()
        assert monitor.runs == 0
        assert monitor.pcrs[6] == bytes(32)
        assert host.run() is Refusal.NONE
        text, _ = host.fetch(kit.PROGRAM)
        seen.append((host.cnf, host.info, text))
        host.do(Command.END)
        assert monitor.state is State.IDLE
        assert monitor.pcrs == (bytes(32),) * 8
    for field in zip(*seen, strict=True):
        assert len(set(field)) == 3


@pytest.mark.both
@pytest.mark.sec("MON.SESSION_KEYS")
def test_a_reopened_session_reads_no_input_and_repeats_no_nonce_of_the_first(power_on, kit):
    host, monitor = power_on()
    host.to_ready()
    old_input = host.fetch(kit.INPUT)
    assert host.run() is Refusal.NONE
    old_output, old_cnf = host.fetch(kit.OUTPUT), host.cnf
    host.do(Command.END)
    host.to_ready()
    # The same secrets, the same run number, other keys: equal plaintexts differ in DRAM.
    assert host.run() is Refusal.NONE
    assert host.fetch(kit.OUTPUT) != old_output
    new_cnf, host.cnf = host.cnf, old_cnf
    with pytest.raises(InvalidTag):
        host.output(1)
    host.cnf = new_cnf
    assert host.output(1) == host.program.result(host.program.contents[kit.INPUT])
    host.do(Command.END)
    host.to_ready()
    host.place(kit.INPUT, *old_input)
    host.run()
    assert monitor.state is State.FATAL


@pytest.mark.both
@pytest.mark.sec("MON.CLEAN_RUN")
@pytest.mark.parametrize("stale", [Memory.ACC, Memory.INP, Memory.WGT])
def test_a_program_that_reads_before_it_loads_reads_zeros_in_every_run(power_on, kit, stale):
    host, _ = power_on(stale=stale)
    host.to_ready()
    bias = host.program.contents[kit.BIAS]
    zeros = np.zeros(16, np.int32) if stale is Memory.ACC else np.frombuffer(bias, np.int32)
    for run in (1, 2):
        host.place_input(run, b"\x7f" * 16)
        assert host.run() is Refusal.NONE
        assert host.output(run) == zeros.astype(np.int8).tobytes()


def test_a_static_key_is_a_prefix_of_the_secret(power_on, kit):
    host, _ = power_on()
    host.to_ready()
    row = host.program.rows[kit.OPEN_WEIGHTS]
    text, tags = host.fetch(kit.OPEN_WEIGHTS)
    cipher = AESGCM(host.owners[kit.MODEL_SLOT].secret[:16])
    nonce = (1 << 92 | kit.OPEN_WEIGHTS << 80 | row.version << 32).to_bytes(12, "big")
    chunk = cipher.decrypt(nonce, text[: row.chunk] + tags[:16], None)
    assert chunk == host.program.contents[kit.OPEN_WEIGHTS][: row.chunk]
