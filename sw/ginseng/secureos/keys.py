"""An owner's secret of one slot: commitment, release to one session, tensor keys."""

import secrets
from hashlib import sha256
from typing import Final, NoReturn

from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from ginseng.isa.codec import Codec
from ginseng.isa.formats import LOADKEY_PCRS, SECRET_BYTES, loadkey_info
from ginseng.isa.mailbox import LoadKeyPlaintext
from ginseng.program import Program, seal_program
from ginseng.program.sealing import session_key
from ginseng.secureos.messages import KeyRelease, SlotCommitment
from ginseng.secureos.provision import public_key_of

__all__ = ["SlotSecret"]

_SUITE: Final = Suite(KEM.P256, KDF.HKDF_SHA256, AEAD.AES_128_GCM)
_PLAINTEXT: Final = Codec(LoadKeyPlaintext)


class SlotSecret:
    """A fresh random secret and its blinding (monitor specification §5).

    Guarantees: the secret leaves this object only inside an HPKE message to a session's key, or
    as a tensor key for the caller; it is not in ``repr``, and the object is never pickled.

    Parameters
    ----------
    slot : int
        The key slot that it is for; part of the message and of session keys.

    """

    def __init__(self, slot: int) -> None:
        self.slot: Final = slot
        self._secret = secrets.token_bytes(SECRET_BYTES)
        self._blinding = secrets.token_bytes(SECRET_BYTES)

    def __repr__(self) -> str:
        return f"SlotSecret(slot={self.slot})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("SlotSecret is never pickled or copied; make a fresh one")

    @property
    def commitment(self) -> SlotCommitment:
        """SHA-256(secret ‖ blinding), to be published before the session."""
        digest = sha256(self._secret + self._blinding).digest()
        return SlotCommitment(slot=self.slot, commitment=digest)

    def release(self, cnf: bytes, locked: tuple[bytes, ...]) -> KeyRelease:
        """Return the HPKE message that opens in one session only.

        Parameters
        ----------
        cnf : bytes
            The session's public key x ‖ y, from a quote that was accepted.
        locked : tuple of bytes
            The registers at LOCK, as this owner expects them (`Measurements.locked`): the device
            binds its side to those, also after PCR4 has moved on.

        """
        digest = sha256(cnf + b"".join(locked[register] for register in LOADKEY_PCRS)).digest()
        plaintext = _PLAINTEXT.pack(slot=self.slot, secret=self._secret, blinding=self._blinding)
        message = _SUITE.encrypt(plaintext, public_key_of(cnf), info=loadkey_info(digest))
        length = KEM.P256.enc_length()
        return KeyRelease(slot=self.slot, enc=message[:length], ciphertext=message[length:])

    def seal_program(self, program: Program) -> Program:
        """Return ``program`` with its weights sealed under this secret; once per secret."""
        return seal_program(program, self._secret)

    def session_key(self, cnf: bytes, key_bytes: int) -> bytes:
        """Return the key of domain-4 and domain-5 tensors in the session of ``cnf``."""
        return session_key(self._secret, cnf=cnf, slot=self.slot, key_bytes=key_bytes)
