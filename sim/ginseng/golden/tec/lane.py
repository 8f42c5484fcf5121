"""One chunk through AES-GCM, in pieces: the only place where anything is encrypted or decrypted.

A chunk's ciphertext leaves as its stores come, and a load's plaintext is used before its tag is
checked (TEC specification §5, §6), so this uses the streaming form of the library's AES-GCM.
"""

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from ginseng.golden.port import Fatal

__all__ = ["Opener", "Sealer"]


class Sealer:
    """Encrypts one chunk.

    Parameters
    ----------
    key : bytes
        16 or 32 bytes.
    nonce : bytes
        12 bytes, never used before under this key.

    """

    __slots__ = ("_context",)

    def __init__(self, key: bytes | bytearray, nonce: bytes) -> None:
        self._context = Cipher(algorithms.AES(key), modes.GCM(nonce)).encryptor()

    def update(self, plaintext: bytes) -> bytes:
        """Return the ciphertext of the chunk's next bytes."""
        return self._context.update(plaintext)

    def finish(self) -> bytes:
        """Return the tag, 16 bytes; the chunk is complete."""
        self._context.finalize()
        return self._context.tag


class Opener:
    """Decrypts one chunk at once, and verifies it later.

    Parameters
    ----------
    key : bytes
        16 or 32 bytes.
    nonce : bytes
        12 bytes.
    ciphertext : bytes
        The whole chunk.
    tag : bytes
        16 bytes; the library refuses to compare less.

    Attributes
    ----------
    plaintext : bytes
        Worth nothing until `verify` has returned.

    """

    __slots__ = ("_context", "plaintext")

    def __init__(self, key: bytes | bytearray, nonce: bytes, ciphertext: bytes, tag: bytes) -> None:
        self._context = Cipher(algorithms.AES(key), modes.GCM(nonce, tag)).decryptor()
        self.plaintext = self._context.update(ciphertext)

    def verify(self) -> None:
        """Compare the tag over the whole chunk.

        Raises
        ------
        Fatal
            If it differs.

        """
        try:
            self._context.finalize()
        except InvalidTag:
            # `from None`: the fault says nothing about what was compared.
            raise Fatal("tag") from None
