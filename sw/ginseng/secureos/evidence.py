"""Reading a quote: strict bytes to claims, in bounded time and memory (monitor specification §4).

The device writes one encoding of one set of claims, so anything else is refused: this parser
accepts no header, tag, key order or length that the device cannot produce.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import cbor2
from pycose.keys.curves import P256
from pycose.keys.ec2 import EC2Key
from pycose.messages.sign1message import Sign1Message

from ginseng.isa.config import RootStrength
from ginseng.isa.formats import (
    CLAIMS,
    MEASUREMENTS_FORMAT,
    PCR_BYTES,
    PCR_COUNT,
    ROOT_STRENGTH_CODES,
    ClaimLabel,
)
from ginseng.isa.registers import RESULT_BYTES
from ginseng.secureos.errors import QuoteRefusedError
from ginseng.secureos.provision import public_key_of

__all__ = ["QUOTE_LIMIT", "Evidence", "parse_quote", "signature_is_valid"]

#: A quote comes out of the result window, so a longer one is none.
QUOTE_LIMIT: Final = RESULT_BYTES
#: Containers in containers of a quote: tag, claims, measurements, their pair.
_MAX_DEPTH: Final = 6
#: COSE (RFC 9052 §4.2, RFC 9053 §2.1, §7.1): tag of COSE_Sign1; label and value of ES256.
_COSE_SIGN1: Final = 18
_ALGORITHM, _ES256 = 1, -7
_CRITICAL: Final = 2
_SIGNATURE_BYTES: Final = 64
#: COSE_Key labels and values: kty EC2, crv P-256, x, y.
_KTY, _CRV, _X, _Y = 1, -1, -2, -3
_EC2, _P256 = 2, 1
_COORDINATE: Final = 32
_STRENGTHS: Final = {code: strength for strength, code in ROOT_STRENGTH_CODES.items()}


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """The claims of a quote, well-formed but not yet believed.

    Attributes
    ----------
    nonce, ueid, oemid : bytes
    profile : str
    dbgstat : int
    pcrs : tuple of bytes
        PCR0 to PCR7.
    cnf : bytes
        The session's public key, x ‖ y; on the curve.
    root_strength : RootStrength
    svn, runs : int
    entropy_health : int

    """

    nonce: bytes
    ueid: bytes
    oemid: bytes
    profile: str
    dbgstat: int
    pcrs: tuple[bytes, ...] = field(repr=False)
    cnf: bytes = field(repr=False)
    root_strength: RootStrength
    svn: int
    runs: int
    entropy_health: int


def parse_quote(quote: bytes) -> Evidence:
    """Return the claims of ``quote``.

    Raises
    ------
    QuoteRefusedError
        If it is not exactly what a device writes. The claim is ``encoding``, ``header`` or the
        claim that is malformed.

    """
    _, payload, _ = _open_envelope(quote)
    tree = _strict(payload, "encoding")
    labels = {int(claim.label) for claim in CLAIMS}
    if not isinstance(tree, Mapping) or set(tree) != labels:
        raise QuoteRefusedError("encoding", "it has not exactly the claims of a Ginseng quote")
    for claim in CLAIMS:
        value = tree[int(claim.label)]
        if claim.hole is not None and isinstance(value, bytes) and len(value) != claim.hole:
            raise QuoteRefusedError(
                claim.label.name.lower(), f"it has {len(value)} bytes, not {claim.hole}"
            )
    registers = _measurements(tree[ClaimLabel.MEASUREMENTS])
    strength = _STRENGTHS.get(int.from_bytes(_typed(tree, ClaimLabel.ROOT_STRENGTH, bytes), "big"))
    if strength is None or len(tree[ClaimLabel.ROOT_STRENGTH]) != 1:
        raise QuoteRefusedError("root_strength", "it is no known strength")
    return Evidence(
        nonce=_typed(tree, ClaimLabel.EAT_NONCE, bytes),
        ueid=_typed(tree, ClaimLabel.UEID, bytes),
        oemid=_typed(tree, ClaimLabel.OEMID, bytes),
        profile=_typed(tree, ClaimLabel.EAT_PROFILE, str),
        dbgstat=_typed(tree, ClaimLabel.DBGSTAT, int),
        pcrs=tuple(registers[PCR_BYTES * n :][:PCR_BYTES] for n in range(PCR_COUNT)),
        cnf=_session_key(tree[ClaimLabel.CNF]),
        root_strength=strength,
        svn=int.from_bytes(_typed(tree, ClaimLabel.SVN, bytes), "big"),
        runs=int.from_bytes(_typed(tree, ClaimLabel.RUNS, bytes), "big"),
        entropy_health=int.from_bytes(_typed(tree, ClaimLabel.ENTROPY_HEALTH, bytes), "big"),
    )


def signature_is_valid(quote: bytes, public_key: bytes) -> bool:
    """Whether the key x ‖ y signed ``quote``, which `parse_quote` accepted."""
    protected, payload, signature = _open_envelope(quote)
    message = Sign1Message.from_cose_obj(
        [protected, {}, payload, signature], allow_unknown_attributes=False
    )
    message.key = EC2Key(crv=P256, x=public_key[:_COORDINATE], y=public_key[_COORDINATE:])
    return bool(message.verify_signature())


def _open_envelope(quote: bytes) -> tuple[bytes, bytes, bytes]:
    """Return protected header, payload and signature."""
    if len(quote) > QUOTE_LIMIT:
        raise QuoteRefusedError(
            "encoding", f"a quote has at most {QUOTE_LIMIT} bytes, this one {len(quote)}"
        )
    envelope = _strict(quote, "encoding")
    if not isinstance(envelope, cbor2.CBORTag) or envelope.tag != _COSE_SIGN1:
        raise QuoteRefusedError("encoding", "it is no tagged COSE_Sign1")
    parts = envelope.value
    if not isinstance(parts, list | tuple) or len(parts) != 4:
        raise QuoteRefusedError("encoding", "a COSE_Sign1 has four parts")
    protected, unprotected, payload, signature = parts
    if not all(isinstance(part, bytes) for part in (protected, payload, signature)):
        raise QuoteRefusedError("encoding", "a part of the COSE_Sign1 is no byte string")
    header = _strict(protected, "header")
    if not isinstance(header, Mapping) or not isinstance(unprotected, Mapping):
        raise QuoteRefusedError("header", "a COSE header is a map")
    if _CRITICAL in header or _CRITICAL in unprotected:
        raise QuoteRefusedError("header", "it has a critical header that is not understood")
    if header.get(_ALGORITHM) != _ES256:
        raise QuoteRefusedError("header", "its algorithm is not ES256")
    if len(header) != 1 or unprotected:
        raise QuoteRefusedError("header", "it has headers that no device writes")
    if len(signature) != _SIGNATURE_BYTES:
        raise QuoteRefusedError("signature", f"it has {len(signature)} bytes, not 64")
    return protected, payload, signature


def _strict(data: bytes, claim: str) -> Any:
    """Decode one item and nothing after it; only its deterministic encoding passes."""
    # SEC: VERIFY.STRICT_ENCODING -- two readers of these bytes can never see different claims.
    try:
        tree = cbor2.loads(
            data, max_depth=_MAX_DEPTH, allow_indefinite=False, allow_duplicate_keys=False
        )
        same = cbor2.dumps(tree, canonical=True) == data
    except (cbor2.CBORError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise QuoteRefusedError(claim, f"it is not valid CBOR ({error})") from None
    if not same:
        raise QuoteRefusedError(claim, "it is not in deterministic CBOR, or bytes follow it")
    return tree


def _typed(tree: Mapping[int, Any], label: ClaimLabel, kind: type) -> Any:
    value = tree[label]
    if type(value) is not kind:
        raise QuoteRefusedError(label.name.lower(), f"it is of another type than {kind.__name__}")
    return value


def _measurements(value: Any) -> bytes:
    match value:
        case [[form, bytes() as registers]] if (
            form == MEASUREMENTS_FORMAT
            and type(form) is int
            and len(registers) == PCR_BYTES * PCR_COUNT
        ):
            return registers
    raise QuoteRefusedError("measurements", "they are not eight registers in our format")


def _session_key(value: Any) -> bytes:
    if not isinstance(value, Mapping) or set(value) != {_KTY, _CRV, _X, _Y}:
        raise QuoteRefusedError("cnf", "it is no COSE_Key of P-256")
    x, y = value[_X], value[_Y]
    if (value[_KTY], value[_CRV]) != (_EC2, _P256) or not all(
        isinstance(part, bytes) and len(part) == _COORDINATE for part in (x, y)
    ):
        raise QuoteRefusedError("cnf", "it is no COSE_Key of P-256")
    try:
        public_key_of(x + y)
    except ValueError:
        raise QuoteRefusedError("cnf", "it is no point of P-256") from None
    return bytes(x + y)
