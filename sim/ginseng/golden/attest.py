"""The attestation block: measurement registers and signed quotes (monitor specification §2, §4)."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import cbor2
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from ginseng.golden.port import Fatal
from ginseng.isa.config import SystemConfig
from ginseng.isa.formats import (
    CLAIMS,
    EAT_PROFILE,
    ENTROPY_HEALTHY,
    MEASUREMENTS_FORMAT,
    OEM_ID,
    PCR_BYTES,
    PCR_COUNT,
    ROOT_STRENGTH_CODES,
    ClaimLabel,
    DebugStatus,
    Pcr,
    event_header,
)
from ginseng.isa.mailbox import EventType
from ginseng.isa.registers import RESULT_BYTES

__all__ = ["Attestation", "Evidence", "MeasurementRegisters", "public_bytes", "ueid"]

_COORDINATE: Final = 32
#: COSE (RFC 9052, RFC 9053): tag of COSE_Sign1, header label of the algorithm, ES256.
_COSE_SIGN1: Final = 18
_ALGORITHM: Final = 1
_ES256: Final = -7
#: COSE_Key: key type EC2, curve P-256, x, y.
_KTY, _CRV, _X, _Y = 1, -1, -2, -3
_EC2, _P256 = 2, 1
#: First byte of a ueid: a random number or a hash (RFC 9711 §4.2.1.1).
_UEID_RAND: Final = b"\x01"


def public_bytes(key: ec.EllipticCurvePublicKey) -> bytes:
    """Return x ‖ y, 64 bytes, big-endian: the form of every public key in a measurement."""
    numbers = key.public_numbers()
    return numbers.x.to_bytes(_COORDINATE, "big") + numbers.y.to_bytes(_COORDINATE, "big")


def ueid(key: ec.EllipticCurvePublicKey) -> bytes:
    """Return the device's name: 0x01 ‖ SHA-256(attestation key x ‖ y)."""
    return _UEID_RAND + hashlib.sha256(public_bytes(key)).digest()


class MeasurementRegisters:
    """The PCRs. They can be extended, and reset all at once; there is no write."""

    def __init__(self) -> None:
        self._values = [bytes(PCR_BYTES)] * PCR_COUNT

    @property
    def values(self) -> tuple[bytes, ...]:
        """All registers in order, 32 bytes each."""
        return tuple(self._values)

    def reset(self) -> None:
        """Return to zero; at the begin and the end of a session only."""
        self._values = [bytes(PCR_BYTES)] * PCR_COUNT

    def extend(self, register: Pcr, kind: EventType, handle: int, data: bytes) -> None:
        """``P := SHA-256(P ‖ SHA-256(header ‖ data))``; see `ginseng.isa.formats.event_header`."""
        inner = hashlib.sha256(event_header(kind, handle, len(data)) + data).digest()
        # SEC: ATTEST.EXTEND_ONLY -- the old value is always an input of the new one.
        self._values[register] = hashlib.sha256(self._values[register] + inner).digest()


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What changes from quote to quote: the holes of the template, but for the device's name.

    Attributes
    ----------
    nonce : bytes
        The verifier's challenge, 32 bytes.
    cnf : bytes
        The session's public key, x ‖ y.
    pcrs : tuple of bytes
    runs : int
        Of this session so far.
    healthy : bool
        Whether no health test of the entropy source has failed.

    """

    nonce: bytes
    cnf: bytes
    pcrs: tuple[bytes, ...]
    runs: int
    healthy: bool


class Attestation:
    """Signs quotes with the device's attestation key.

    Parameters
    ----------
    config : SystemConfig
        Fixes the claims that are the same in every quote of a build.
    svn : int
        Security version number of the monitor.
    key : EllipticCurvePrivateKey
        P-256, from the ladder.

    """

    def __init__(self, config: SystemConfig, svn: int, key: ec.EllipticCurvePrivateKey) -> None:
        self._config = config
        self._svn = svn
        self._key: ec.EllipticCurvePrivateKey | None = key
        self._ueid = ueid(key.public_key())

    def __repr__(self) -> str:
        return f"Attestation(ueid={self._ueid.hex()})"

    def quote(self, evidence: Evidence) -> bytes:
        """Return a tagged COSE_Sign1, ES256, over the claims in deterministic CBOR.

        The unprotected header is empty: what is not signed could be changed on the way.

        Raises
        ------
        Fatal
            If the key was zeroized.

        """
        if self._key is None:
            raise Fatal("attestation: no key")
        protected = cbor2.dumps({_ALGORITHM: _ES256})
        payload = self._payload(evidence)
        to_sign = cbor2.dumps(["Signature1", protected, b"", payload])
        # SEC: ATTEST.DETERMINISTIC_NONCE -- RFC 6979: no randomness whose failure gives the key.
        der = self._key.sign(to_sign, ec.ECDSA(SHA256(), deterministic_signing=True))
        signature = b"".join(n.to_bytes(_COORDINATE, "big") for n in decode_dss_signature(der))
        quote = cbor2.dumps(cbor2.CBORTag(_COSE_SIGN1, [protected, {}, payload, signature]))
        if len(quote) > RESULT_BYTES:
            raise Fatal("attestation: quote exceeds the result window")
        return quote

    def zeroize(self) -> None:
        """Forget the key; only a reset brings it back."""
        self._key = None

    def _payload(self, evidence: Evidence) -> bytes:
        """Return the claims; equal in length and order for every quote of a build."""
        values: dict[ClaimLabel, Any] = {
            ClaimLabel.CNF: evidence.cnf,
            ClaimLabel.EAT_NONCE: evidence.nonce,
            ClaimLabel.UEID: self._ueid,
            ClaimLabel.OEMID: OEM_ID,
            ClaimLabel.DBGSTAT: int(
                DebugStatus.ENABLED if self._config.debug else DebugStatus.DISABLED_SINCE_BOOT
            ),
            ClaimLabel.EAT_PROFILE: EAT_PROFILE,
            ClaimLabel.MEASUREMENTS: b"".join(evidence.pcrs),
            ClaimLabel.ROOT_STRENGTH: bytes([ROOT_STRENGTH_CODES[self._config.root]]),
            ClaimLabel.SVN: self._svn.to_bytes(8, "big"),
            ClaimLabel.RUNS: evidence.runs.to_bytes(8, "big"),
            ClaimLabel.ENTROPY_HEALTH: bytes([ENTROPY_HEALTHY if evidence.healthy else 0]),
        }
        for claim in CLAIMS:
            # SEC: ATTEST.FIXED_TEMPLATE -- nothing that varies can move what stands beside it.
            if claim.hole is not None and len(values[claim.label]) != claim.hole:
                raise Fatal(f"attestation: claim {claim.label.name} has another length")
        values[ClaimLabel.CNF] = {
            _KTY: _EC2,
            _CRV: _P256,
            _X: evidence.cnf[:_COORDINATE],
            _Y: evidence.cnf[_COORDINATE:],
        }
        values[ClaimLabel.MEASUREMENTS] = [[MEASUREMENTS_FORMAT, values[ClaimLabel.MEASUREMENTS]]]
        return _deterministic_map({int(label): value for label, value in values.items()})


def _deterministic_map(values: Mapping[int, Any]) -> bytes:
    """Encode a map with its keys in the order of their encodings (RFC 8949 §4.2.1)."""
    return cbor2.dumps(dict(sorted(values.items(), key=lambda item: cbor2.dumps(item[0]))))
