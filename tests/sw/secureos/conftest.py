"""Parties of a session, and a forger, who holds a device's key and signs whatever it likes."""

import hashlib
from dataclasses import dataclass, field, replace

import cbor2
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from ginseng.driver.boards.model import ModelBoard
from ginseng.isa.config import RootStrength
from ginseng.isa.formats import EAT_PROFILE, MEASUREMENTS_FORMAT, OEM_ID, ClaimLabel
from ginseng.program import Measurements
from ginseng.secureos import (
    DataOwner,
    LocalSession,
    Manufacturer,
    ModelOwner,
    Policy,
    Runtime,
    local_session,
    verify_quote,
)

NONCE = bytes(range(32))


def point(key):
    numbers = key.public_key().public_numbers()
    return numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")


@dataclass
class Forger:
    """Signs what it is told; by default what an honest device would say."""

    key: ec.EllipticCurvePrivateKey
    session: ec.EllipticCurvePrivateKey
    maker: Manufacturer
    policy: Policy
    measurements: Measurements
    chain: tuple = field(default=())

    def claims(self, **changes):
        cnf = point(self.session)
        honest = {
            "CNF": {1: 2, -1: 1, -2: cnf[:32], -3: cnf[32:]},
            "EAT_NONCE": NONCE,
            "UEID": b"\1" + hashlib.sha256(point(self.key)).digest(),
            "OEMID": OEM_ID,
            "DBGSTAT": 2,
            "EAT_PROFILE": EAT_PROFILE,
            "MEASUREMENTS": [[MEASUREMENTS_FORMAT, b"".join(self.measurements.final)]],
            "ROOT_STRENGTH": b"\0",
            "SVN": (3).to_bytes(8, "big"),
            "RUNS": bytes(8),
            "ENTROPY_HEALTH": b"\1",
        }
        return {int(ClaimLabel[name]): value for name, value in (honest | changes).items()}

    def envelope(self, payload, *, protected=cbor2.dumps({1: -7}), unprotected=None):  # noqa: B008
        to_sign = cbor2.dumps(["Signature1", protected, b"", payload])
        der = self.key.sign(to_sign, ec.ECDSA(hashes.SHA256()))
        signature = b"".join(n.to_bytes(32, "big") for n in decode_dss_signature(der))
        return cbor2.dumps(cbor2.CBORTag(18, [protected, unprotected or {}, payload, signature]))

    def quote(self, **changes):
        return self.envelope(cbor2.dumps(self.claims(**changes), canonical=True))

    def verify(self, quote, **changes):
        given = {
            "nonce": NONCE,
            "chain": self.chain,
            "roots": (self.maker.root,),
            "policy": self.policy,
            "measurements": self.measurements,
        }
        return verify_quote(quote, **(given | changes))


@pytest.fixture(scope="session")
def maker():
    return Manufacturer.create()


@pytest.fixture(scope="session")
def policy():
    return Policy(root_strengths=frozenset({RootStrength.SIMULATED}), min_svn=1)


@pytest.fixture(scope="session")
def forger(maker, policy):
    key = ec.derive_private_key(0x1234567, ec.SECP256R1())
    pcrs = tuple(hashlib.sha256(bytes([n])).digest() for n in range(8))
    pcrs = (*pcrs[:6], bytes(32), pcrs[7])
    chain = (maker.certify(point(key), strength=RootStrength.SIMULATED),)
    session = ec.derive_private_key(0x7654321, ec.SECP256R1())
    locked = (*pcrs[:4], bytes(32), *pcrs[5:])
    return Forger(key, session, maker, policy, Measurements(locked, pcrs), chain)


@pytest.fixture
def forge(forger):
    """A forger of the same device that a test may change."""
    return replace(forger)


@pytest.fixture
def board(config):
    with ModelBoard(config) as board:
        yield board


@pytest.fixture
def meet(tiny, maker, policy):
    """A function: the parties of ``board``, who have not opened a session yet."""

    def meet(board, *, network=tiny, max_runs=8, policy=policy, **given):
        certificate = maker.certify(board.attestation_public_key(), strength=board.config.root)
        runtime = Runtime(board, certificates=(certificate,), **given)
        model = ModelOwner(network.program, roots=(maker.root,), policy=policy)
        data = DataOwner(model.program, roots=(maker.root,), policy=policy)
        return LocalSession(
            board, runtime, model, data, max_runs=max_runs, monitor_rom=board.monitor_rom
        )

    return meet


@pytest.fixture
def parties(board, meet):
    return meet(board)


@pytest.fixture
def session(board, tiny, maker, policy):
    """An open session between the two owners."""
    with local_session(board, tiny.program, manufacturer=maker, policy=policy) as session:
        yield session
