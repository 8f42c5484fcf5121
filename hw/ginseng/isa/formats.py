"""Public formats: sealed tensors, key derivation, measurements and quotes.

Only shapes and labels stand here. Gates, golden model, owners' tools and verifiers each bring
their own cryptography, so that none of them is checked against itself. TEC specification §4,
monitor specification §2, §4 and §5.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from ginseng.isa.config import RootStrength

__all__ = [
    "CLAIMS",
    "COMMITMENT_BYTES",
    "EAT_PROFILE",
    "ENTROPY_HEALTHY",
    "LOADKEY_INFO",
    "LOADKEY_PCRS",
    "MEASUREMENTS_FORMAT",
    "MODEL_MONITOR_ROM",
    "NONCE_BYTES",
    "OEM_ID",
    "PCR_BYTES",
    "PCR_COUNT",
    "ROOT_STRENGTH_CODES",
    "SECRET_BYTES",
    "SLOT_INFO",
    "TAG_BYTES",
    "Claim",
    "ClaimLabel",
    "DebugStatus",
    "Pcr",
    "chunk_count",
    "chunk_nonce",
    "chunk_place",
    "event_header",
    "loadkey_info",
    "sealed_bytes",
    "slot_info",
]

#: Bytes of an AES-GCM tag; one stands behind each chunk.
TAG_BYTES: Final = 16
#: Bytes of a GCM nonce.
NONCE_BYTES: Final = 12
#: Bytes of an owner's secret and of its blinding.
SECRET_BYTES: Final = 32
#: Bytes of SHA-256(secret ‖ blinding).
COMMITMENT_BYTES: Final = 32
#: HKDF info of a session key, before the slot number as one byte.
SLOT_INFO: Final = b"ginseng slot"
#: HPKE info of LOADKEY, before SHA-256 over cnf x ‖ y and the registers of `LOADKEY_PCRS`.
LOADKEY_INFO: Final = b"ginseng loadkey 1"


def chunk_count(length: int, chunk: int) -> int:
    """Chunks of a tensor of ``length`` bytes; the last may be short."""
    return -(-length // chunk)


def chunk_place(index: int, chunk: int) -> int:
    """Return where a chunk stands, from its tensor's base: those before it have a tag each."""
    return index * (chunk + TAG_BYTES)


def sealed_bytes(length: int, chunk: int) -> int:
    """Bytes that a tensor of ``length`` bytes takes in DRAM: chunks, and a tag behind each."""
    return length + TAG_BYTES * chunk_count(length, chunk)


def chunk_nonce(domain: int, handle: int, version: int, index: int) -> bytes:
    """Nonce: ``domain(4) ‖ handle(12) ‖ version(48) ‖ chunk_index(32)``, big-endian."""
    for name, value, bits in (
        ("domain", domain, 4),
        ("handle", handle, 12),
        ("version", version, 48),
        ("chunk index", index, 32),
    ):
        if not 0 <= value < 1 << bits:
            raise ValueError(f"The {name} of a nonce has {bits} bits, {value} does not fit")
    return (domain << 92 | handle << 80 | version << 32 | index).to_bytes(NONCE_BYTES, "big")


def slot_info(slot: int) -> bytes:
    """HKDF info of the session key of ``slot``."""
    return SLOT_INFO + bytes([slot])


def loadkey_info(digest: bytes) -> bytes:
    """HPKE info of LOADKEY; ``digest`` is SHA-256 over cnf x ‖ y and `LOADKEY_PCRS` at LOCK."""
    return LOADKEY_INFO + digest


class Pcr(IntEnum):
    """Measurement registers."""

    CONFIGURATION = 0
    MONITOR = 1
    TABLE = 2
    PROGRAM = 3
    WEIGHTS = 4
    RESERVED = 5
    RUNS = 6
    SLOTS = 7


PCR_COUNT: Final = 8
PCR_BYTES: Final = 32
#: Registers that LOADKEY's info binds, in this order.
LOADKEY_PCRS: Final = (
    Pcr.CONFIGURATION,
    Pcr.MONITOR,
    Pcr.TABLE,
    Pcr.PROGRAM,
    Pcr.WEIGHTS,
    Pcr.SLOTS,
)


def event_header(kind: int, handle: int, length: int) -> bytes:
    """Head of what a register is extended with: ``type(1) ‖ handle(2) ‖ length(8)``, big-endian.

    ``length`` counts the bytes that follow. An extension is
    ``P := SHA-256(P ‖ SHA-256(header ‖ bytes))``, registers start at zero.

    | register | event | handle | bytes |
    |---|---|---|---|
    | 0 | CONFIGURATION | 0 | configuration digest |
    | 1 | MONITOR | 0 | SHA-256 of the monitor ROM |
    | 2 | ROW, at LOCK, ascending | handle | the row's 32 bytes, base zero |
    | 2 | LOCK | entry | max_runs (8, big-endian) |
    | 3 | PLAIN_IMPORT | handle | plaintext of a domain-3 tensor |
    | 4 | PLAIN_IMPORT | handle | plaintext of a domain-1 tensor |
    | 4 | SEALED_IMPORT | handle | (ciphertext ‖ tag) of each chunk in chunk order |
    | 6 | RUN, at FINISH | 0 | run (8) ‖ SHA-256 over (handle(2) ‖ chunk index(4) ‖ ciphertext ‖ |
    |   |   |   | tag) of each chunk of the measured exports, in store order, big-endian |
    | 7 | SLOT, at LOCK, slots 1 to 7 | slot | use (1) ‖ commitment (32); zeros if not given |
    """
    return kind.to_bytes(1, "big") + handle.to_bytes(2, "big") + length.to_bytes(8, "big")


#: eat_profile of a Ginseng quote.
EAT_PROFILE: Final = "tag:ginseng-tee.org,2026:quote-1"
#: oemid of devices that nobody manufactured: 16 bytes, fixed.
OEM_ID: Final = b"ginseng-dev-oem\0"
#: Content format of the one entry of `measurements`: PCR0 ‖ … ‖ PCR7.
MEASUREMENTS_FORMAT: Final = 65000


class DebugStatus(IntEnum):
    """dbgstat of RFC 9711 §4.2.9, the two values that a build can have."""

    ENABLED = 0
    DISABLED_SINCE_BOOT = 2


class ClaimLabel(IntEnum):
    """Labels of the claims of a quote: RFC 9711, RFC 8747 (cnf), then ours."""

    CNF = 8
    EAT_NONCE = 10
    UEID = 256
    OEMID = 258
    DBGSTAT = 263
    EAT_PROFILE = 265
    MEASUREMENTS = 273
    ROOT_STRENGTH = -70001
    SVN = -70002
    RUNS = -70003
    ENTROPY_HEALTH = -70004


@dataclass(frozen=True)
class Claim:
    """One claim: its label, and its length in bytes where it is a hole of the template."""

    label: ClaimLabel
    #: Bytes of the hole; None for a claim that the build fixes.
    hole: int | None
    doc: str


#: Every claim of a quote, all mandatory. Deterministic CBOR (RFC 8949 §4.2.1) orders them by
#: their encoding. Counters are 8 bytes, big-endian.
CLAIMS: Final = (
    Claim(ClaimLabel.CNF, 64, "session public key: COSE_Key {1: 2, -1: 1, -2: x, -3: y}"),
    Claim(ClaimLabel.EAT_NONCE, 32, "the verifier's challenge"),
    Claim(ClaimLabel.UEID, 33, "0x01 ‖ SHA-256(attestation key x ‖ y)"),
    Claim(ClaimLabel.OEMID, None, "manufacturer"),
    Claim(ClaimLabel.DBGSTAT, None, "whether causes of faults can be read"),
    Claim(ClaimLabel.EAT_PROFILE, None, "this format"),
    Claim(ClaimLabel.MEASUREMENTS, 256, "[[MEASUREMENTS_FORMAT, PCR0 ‖ … ‖ PCR7]]"),
    Claim(ClaimLabel.ROOT_STRENGTH, None, "one byte of ROOT_STRENGTH_CODES"),
    Claim(ClaimLabel.SVN, 8, "security version number of the monitor"),
    Claim(ClaimLabel.RUNS, 8, "runs of this session so far"),
    Claim(ClaimLabel.ENTROPY_HEALTH, 1, "ENTROPY_HEALTHY while no health test failed"),
)

ROOT_STRENGTH_CODES: Final = {
    RootStrength.SIMULATED: 0,
    RootStrength.DEVELOPMENT: 1,
    RootStrength.VENDOR: 2,
    RootStrength.HARDWARE: 3,
}
ENTROPY_HEALTHY: Final = 1

#: What stands for the monitor ROM where there is none: the model interprets the specification.
#: A quote of the model board carries its hash in PCR1 and so can never pass for a device's.
MODEL_MONITOR_ROM: Final = b"ginseng golden monitor 1: no ROM, simulated"
