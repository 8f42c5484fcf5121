"""The tensor table and the key slots, as the mailbox takes them (TEC specification §3)."""

from dataclasses import dataclass
from typing import Final

from amaranth.lib import data, enum

from ginseng.isa.codec import Codec

__all__ = [
    "BASE_ALIGNMENT",
    "ENTRY_CHUNK_LIMIT",
    "GRANULE",
    "KEY_SLOTS",
    "K_MEM",
    "MAX_CHUNK",
    "STORE_SPAN",
    "TENSOR_ROW",
    "Domain",
    "Limits",
    "Permission",
    "SlotUse",
    "Source",
    "TensorRow",
]

#: ``base`` is a multiple of this, in bytes.
BASE_ALIGNMENT: Final = 128
#: ``length`` and ``chunk`` are multiples of this, in bytes: one cipher block.
GRANULE: Final = 16
#: Longest chunk, in bytes.
MAX_CHUNK: Final = (1 << 20) - GRANULE
#: Longest chunk of an X row, in bytes: the buffer in which instructions wait for their tag.
ENTRY_CHUNK_LIMIT: Final = 512
#: Slots 0 (K_mem) to 7.
KEY_SLOTS: Final = 8
#: The slot of K_mem, which no command loads.
K_MEM: Final = 0
#: Stores over which one chunk may continue (§6).
STORE_SPAN: Final = 4


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Counters' ends (TEC specification §3, §4); a test lowers them to reach them.

    Attributes
    ----------
    epochs : int
        Greatest version in a nonce: epochs and run numbers.
    blocks : int
        16-byte blocks encrypted under one key.

    """

    epochs: int = (1 << 48) - 1
    blocks: int = 1 << 40


class Domain(enum.IntEnum, shape=4):
    """What a tensor is for; the first field of its nonces."""

    WEIGHTS = 1
    SCRATCH = 2
    PROGRAM = 3
    IMPORT = 4
    EXPORT = 5


class Permission(enum.IntFlag, shape=3):
    """What a program may do with a tensor."""

    R = 1
    W = 2
    X = 4


class Source(enum.IntEnum, shape=1):
    """What IMPORT reads: an owner's ciphertext, or plain bytes."""

    SEALED = 0
    PLAIN = 1


class SlotUse(enum.IntFlag, shape=2):
    """What a key slot is for. Exactly one of the two: a slot that mixes both is refused."""

    #: Domain 1: the key is the owner's secret itself, and the TEC only decrypts with it.
    STATIC = 1
    #: Domains 4 and 5: the key is derived from the secret and the session's public key.
    SESSION = 2


class TensorRow(data.Struct):
    """One row of the table; 256 bits. The handle is its index, given beside it.

    ``base``, ``length`` and ``chunk`` are bytes; ``length`` counts no tags.
    """

    domain: Domain
    permissions: Permission
    slot: 3
    measured: 1
    source: Source
    chunk: 20
    base: 40
    length: 40
    version: 48
    _zero: 96


#: The codec of a row.
TENSOR_ROW: Final = Codec(TensorRow)
