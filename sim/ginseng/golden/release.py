"""Key release: what a LOADKEY message says, and the key it gives (monitor specification §5)."""

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ginseng.isa.codec import Codec
from ginseng.isa.formats import LOADKEY_PCRS, loadkey_info, slot_info
from ginseng.isa.mailbox import LoadKeyPlaintext
from ginseng.isa.table import SlotUse

__all__ = ["Released", "key_of", "open_message", "session_info"]

_SUITE: Final = Suite(KEM.P256, KDF.HKDF_SHA256, AEAD.AES_128_GCM)
_PLAINTEXT: Final = Codec(LoadKeyPlaintext)


@dataclass(frozen=True)
class Released:
    """What an owner let go."""

    slot: int
    secret: bytes = field(repr=False)
    blinding: bytes = field(repr=False)

    def fits(self, commitment: bytes) -> bool:
        """Whether ``commitment`` is SHA-256(secret ‖ blinding), in constant time."""
        digest = hashlib.sha256(self.secret + self.blinding).digest()
        # SEC: MON.COMMITMENT -- only the secret that the quote showed, whoever sends it.
        return hmac.compare_digest(digest, commitment)


def session_info(cnf: bytes, pcrs: Sequence[bytes]) -> bytes:
    """Return the HPKE info of every LOADKEY of a session, from the registers at LOCK."""
    # SEC: MON.LOADKEY_BINDING -- a message opens in the session that its owner checked, or nowhere.
    digest = hashlib.sha256(cnf + b"".join(pcrs[pcr] for pcr in LOADKEY_PCRS)).digest()
    return loadkey_info(digest)


def open_message(
    private: ec.EllipticCurvePrivateKey, info: bytes, enc: bytes, ciphertext: bytes
) -> Released | None:
    """Open an HPKE message; None if it is not for this key and ``info``, or no point is in it."""
    try:
        plaintext = _SUITE.decrypt(enc + ciphertext, private, info=info)
    except InvalidTag:
        return None
    fields = _PLAINTEXT.unpack_bytes(plaintext)
    slot = _PLAINTEXT.unpack(plaintext)["slot"]
    return Released(slot, fields["secret"], fields["blinding"])


def key_of(released: Released, use: SlotUse, *, cnf: bytes, key_bytes: int) -> bytes:
    """Return the tensor key of a slot (TEC specification §4)."""
    if use is SlotUse.STATIC:
        return released.secret[:key_bytes]
    # SEC: MON.SESSION_KEYS -- a killed and reopened session has other keys for the same secrets.
    salt = hashlib.sha256(cnf).digest()
    return HKDF(SHA256(), key_bytes, salt, slot_info(released.slot)).derive(released.secret)
