"""The ladder from the device secret to the attestation key."""

import hashlib
import hmac
import itertools
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ginseng.golden.keygen import (
    DeviceIdentity,
    KeygenError,
    Ladder,
    UdsRegister,
    attestation_key,
    uds_register,
)
from ginseng.golden.keygen.scalar import ORDER
from ginseng.golden.port import Fatal
from ginseng.isa.config import RootStrength, SystemConfig
from ginseng.isa.errors import ConfigError

UDS, BITSTREAM, DIGEST, ROM = (hashlib.sha256(bytes([n])).digest() for n in range(4))
STEPS = {
    "hardware": lambda ladder: ladder.measure_hardware(BITSTREAM, DIGEST),
    "monitor": lambda ladder: ladder.measure_monitor(ROM, 1),
    "key": lambda ladder: ladder.attestation_key(),
}


def climb(uds=UDS, *, bitstream_id=BITSTREAM, digest=DIGEST, rom=ROM, svn=1):
    key = attestation_key(
        UdsRegister(uds), bitstream_id=bitstream_id, digest=digest, rom=rom, svn=svn
    )
    return key.private_numbers().private_value


def test_the_attestation_key_is_what_the_specification_derives(drbg_oracle):
    cdi0 = hmac.digest(UDS, hashlib.sha256(BITSTREAM + DIGEST).digest(), "sha256")
    cdi1 = hmac.digest(cdi0, ROM + (7).to_bytes(8, "big"), "sha256")
    # HKDF of RFC 5869, one block.
    prk = hmac.digest(bytes(32), cdi1, "sha256")
    seed = hmac.digest(prk, b"ginseng attestation key\x01", "sha256")
    oracle = drbg_oracle(seed, b"", b"")
    scalar = ORDER
    while not 1 <= scalar < ORDER:
        scalar = int.from_bytes(oracle.generate(32), "big")
    assert climb(svn=7) == scalar


def test_every_measurement_and_the_secret_change_the_key():
    keys = {
        climb(),
        climb(bytes(32)),
        climb(bitstream_id=bytes(32)),
        climb(digest=bytes(32)),
        climb(rom=bytes(32)),
        climb(svn=2),
    }
    assert len(keys) == 6
    assert climb() in keys


@pytest.mark.sec("KEYGEN.UDS_LOCK")
def test_the_device_secret_is_read_once():
    register = UdsRegister(UDS)
    assert register.read() == UDS
    for _ in range(3):
        with pytest.raises(Fatal):
            register.read()
    with pytest.raises(Fatal):
        Ladder(register)


def test_a_locked_register_gives_its_secret_to_nobody():
    register = UdsRegister(UDS)
    register.lock()
    with pytest.raises(Fatal):
        register.read()


@pytest.mark.sec("KEYGEN.LADDER_ONE_WAY")
@pytest.mark.parametrize(
    "order", [o for n in (1, 2, 3, 4) for o in itertools.product(STEPS, repeat=n)]
)
def test_only_the_one_order_of_steps_gives_a_key(order):
    legal = ("hardware", "monitor", "key")
    good = next((n for n, step in enumerate(order) if n > 2 or step != legal[n]), len(order))
    ladder = Ladder(UdsRegister(UDS))
    for step in order[:good]:
        STEPS[step](ladder)
    if good < len(order):
        for step in (order[good], *STEPS):
            with pytest.raises(Fatal):
                STEPS[step](ladder)


def test_a_ladder_that_was_climbed_or_broken_holds_no_secret():
    def secrets(ladder):
        return [value for value in vars(ladder).values() if isinstance(value, bytes)]

    climbed, broken = Ladder(UdsRegister(UDS)), Ladder(UdsRegister(UDS))
    assert secrets(climbed) == [UDS]
    STEPS["hardware"](climbed)
    assert UDS not in secrets(climbed)
    assert len(secrets(climbed)) == 1
    STEPS["monitor"](climbed)
    STEPS["key"](climbed)
    assert secrets(climbed) == []
    with pytest.raises(Fatal):
        STEPS["key"](broken)
    assert secrets(broken) == []


def test_secrets_are_in_no_repr_and_in_no_pickle():
    identity = DeviceIdentity(UDS, BITSTREAM, 3)
    register = UdsRegister(UDS)
    ladder = Ladder(UdsRegister(UDS))
    for holder in (identity, register, ladder):
        assert UDS.hex() not in repr(holder)
        assert repr(UDS) not in repr(holder)
    for holder in (register, ladder):
        with pytest.raises(TypeError):
            pickle.dumps(holder)


def test_two_generated_devices_differ_and_malformed_ones_are_refused():
    assert DeviceIdentity.generate().uds != DeviceIdentity.generate().uds
    for uds, bitstream_id, svn in (
        (bytes(31), BITSTREAM, 1),
        (UDS, b"", 1),
        (UDS, BITSTREAM, -1),
        (UDS, BITSTREAM, 1 << 64),
    ):
        with pytest.raises(KeygenError):
            DeviceIdentity(uds, bitstream_id, svn)


@pytest.mark.sec("KEYGEN.ROOT_HONESTY")
@pytest.mark.parametrize("root", RootStrength)
def test_the_model_claims_no_root_that_it_does_not_have(root):
    config, identity = SystemConfig(root=root), DeviceIdentity.generate()
    if root in (RootStrength.SIMULATED, RootStrength.DEVELOPMENT):
        assert uds_register(config, identity).read() == identity.uds
    else:
        with pytest.raises(ConfigError, match="register file"):
            uds_register(config, identity)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, (1 << 64) - 1), st.integers(0, (1 << 64) - 1))
def test_versions_have_equal_keys_only_if_they_are_equal(one, other):
    assert (climb(svn=one) == climb(svn=other)) == (one == other)
