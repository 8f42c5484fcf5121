"""What owners and the operator's host say to each other: plain values, as CBOR on the wire.

Nothing here is secret: programs are sealed, keys travel in HPKE messages, tensors as ciphertext.
"""

from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Final, TypeVar, get_args, get_origin

import cbor2

from ginseng.secureos.errors import MessageError

__all__ = [
    "CHALLENGE_BYTES",
    "DeviceInfo",
    "KeyRelease",
    "QuoteReply",
    "SealedInputs",
    "SealedResults",
    "SealedValue",
    "SessionStatus",
    "SessionTerms",
    "SlotCommitment",
    "decode",
    "encode",
]

#: Bytes of the nonce of a quote.
CHALLENGE_BYTES: Final = 32
#: Containers in containers that the deepest message has.
_MAX_DEPTH: Final = 8

M = TypeVar("M")


@dataclass(frozen=True, kw_only=True)
class SlotCommitment:
    """What one owner publishes for one slot: SHA-256(secret ‖ blinding)."""

    slot: int
    commitment: bytes


@dataclass(frozen=True, kw_only=True)
class SessionTerms:
    """What all parties agree on before a session; every owner measures it for itself.

    Attributes
    ----------
    program : bytes
        A sealed `.ginseng` file.
    commitments : tuple of SlotCommitment
        One for every slot that the program names.
    max_runs : int
        Runs after which the device does no more.
    monitor_rom : bytes
        SHA-256 of the monitor ROM that is expected, 32 bytes.

    """

    program: bytes
    commitments: tuple[SlotCommitment, ...]
    max_runs: int
    monitor_rom: bytes

    def __repr__(self) -> str:
        return f"SessionTerms({len(self.program)} bytes of program, max_runs={self.max_runs})"


@dataclass(frozen=True, kw_only=True)
class DeviceInfo:
    """What the operator says of its device; claims to be checked, not facts."""

    board: str
    simulated: tuple[str, ...]
    config: bytes
    certificates: tuple[bytes, ...]


@dataclass(frozen=True, kw_only=True)
class SessionStatus:
    """Where a session stands.

    Attributes
    ----------
    session : str
        Its name; who knows it may use it.
    state : str
        ``queued``, ``locked`` (keys or sealed imports are missing), ``ready`` or ``over``.
    position : int
        Sessions before it in the queue; 0 unless queued.
    imported : bool
        Whether every measured tensor is in place, so that PCR4 is final.
    runs : int
        Runs done.
    reason : str
        Why it is over.

    """

    session: str
    state: str
    position: int = 0
    imported: bool = False
    runs: int = 0
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class QuoteReply:
    """A COSE_Sign1 quote and the certificates that lead to its key, the device's first, DER."""

    quote: bytes
    certificates: tuple[bytes, ...]


@dataclass(frozen=True, kw_only=True)
class KeyRelease:
    """An HPKE message that only one session of one device opens."""

    slot: int
    enc: bytes
    ciphertext: bytes


@dataclass(frozen=True, kw_only=True)
class SealedValue:
    """One tensor in the TEC's DRAM format."""

    tensor: str
    sealed: bytes

    def __repr__(self) -> str:
        return f"SealedValue({self.tensor!r}, {len(self.sealed)} bytes)"


@dataclass(frozen=True, kw_only=True)
class SealedInputs:
    """One owner's inputs of one run, sealed under its number."""

    run: int
    values: tuple[SealedValue, ...]


@dataclass(frozen=True, kw_only=True)
class SealedResults:
    """What one run stored, sealed under its number; and the run's counters."""

    run: int
    values: tuple[SealedValue, ...]
    cycles: int = 0
    read_bytes: int = 0
    write_bytes: int = 0


def encode(message: Any) -> bytes:
    """Return ``message`` as deterministic CBOR: the list of its fields, in order."""
    return cbor2.dumps(_to_tree(message), canonical=True)


def decode(kind: type[M], data: bytes, *, limit: int = 1 << 30) -> M:
    """Return the message of ``kind`` that ``data`` holds.

    Raises
    ------
    MessageError
        If ``data`` is longer than ``limit`` bytes, or no such message in its only encoding.

    """
    if len(data) > limit:
        raise MessageError(f"A {kind.__name__} has at most {limit} bytes, not {len(data)}")
    try:
        tree = cbor2.loads(
            data, max_depth=_MAX_DEPTH, allow_indefinite=False, allow_duplicate_keys=False
        )
        message: M = _from_tree(kind, tree)
    except (cbor2.CBORError, ValueError, TypeError, OverflowError) as error:
        raise MessageError(f"These bytes are no {kind.__name__}: {error}") from None
    if encode(message) != data:
        raise MessageError(f"These bytes are a {kind.__name__}, but not in its only encoding")
    return message


def _to_tree(value: Any) -> Any:
    if is_dataclass(value):
        return [_to_tree(getattr(value, item.name)) for item in fields(value)]
    if isinstance(value, tuple):
        return [_to_tree(item) for item in value]
    return value


def _from_tree(kind: Any, tree: Any) -> Any:
    if get_origin(kind) is tuple:
        if not isinstance(tree, list):
            raise MessageError(f"a list belongs where {type(tree).__name__} stands")
        return tuple(_from_tree(get_args(kind)[0], item) for item in tree)
    if isinstance(kind, type) and is_dataclass(kind):
        items = fields(kind)
        if not isinstance(tree, list) or len(tree) != len(items):
            raise MessageError(f"a {kind.__name__} is a list of {len(items)} fields")
        values = {item.name: _from_tree(item.type, x) for item, x in zip(items, tree, strict=True)}
        return kind(**values)
    if type(tree) is not kind:
        raise MessageError(f"{kind.__name__} belongs where {type(tree).__name__} stands")
    return tree
