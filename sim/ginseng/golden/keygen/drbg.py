"""HMAC_DRBG with SHA-256 (SP 800-90A Rev. 1, §10.1.2)."""

import hmac
from typing import NoReturn

from ginseng.golden.keygen.errors import KeygenError
from ginseng.golden.port import Fatal

__all__ = ["REQUEST_LIMIT", "RESEED_LIMIT", "SEED_BYTES", "HmacDrbg"]

#: Least entropy input of `HmacDrbg` and of its reseeding, in bytes: its security strength.
SEED_BYTES = 32
#: Most bytes of one request (table 2: 2^19 bits).
REQUEST_LIMIT = 1 << 16
#: Most requests between two seeds (table 2).
RESEED_LIMIT = 1 << 48


class HmacDrbg:
    """One instantiation of the generator.

    Parameters
    ----------
    entropy : bytes
        At least `SEED_BYTES`.
    nonce, personalization : bytes

    Raises
    ------
    KeygenError
        If the entropy is too short.

    """

    def __init__(self, entropy: bytes, nonce: bytes = b"", personalization: bytes = b"") -> None:
        _check_entropy(entropy)
        self._key: bytes | None = bytes(32)
        self._value = b"\x01" * 32
        self._update(entropy + nonce + personalization)
        self._requests = 1

    def __repr__(self) -> str:
        return "HmacDrbg()"

    def __reduce__(self) -> NoReturn:
        raise TypeError("HmacDrbg holds the state of every future key and is never pickled")

    def reseed(self, entropy: bytes, additional: bytes = b"") -> None:
        """Mix fresh entropy in (§10.1.2.4).

        Raises
        ------
        KeygenError
            If the entropy is too short.
        Fatal
            If the state was zeroized.

        """
        _check_entropy(entropy)
        self._update(entropy + additional)
        self._requests = 1

    def generate(self, nbytes: int, additional: bytes = b"") -> bytes:
        """Return ``nbytes`` pseudo-random bytes (§10.1.2.5).

        Raises
        ------
        KeygenError
            If ``nbytes`` is more than `REQUEST_LIMIT`.
        Fatal
            If the state was zeroized, or too many requests were made since the last seed.

        """
        if not 0 <= nbytes <= REQUEST_LIMIT:
            raise KeygenError(f"A request is 0 to {REQUEST_LIMIT} bytes, not {nbytes}; split it")
        if self._requests > RESEED_LIMIT:
            raise Fatal("drbg: reseed limit")
        if additional:
            self._update(additional)
        key = self._live()
        output = b""
        while len(output) < nbytes:
            self._value = hmac.digest(key, self._value, "sha256")
            output += self._value
        self._update(additional)
        self._requests += 1
        return output[:nbytes]

    def zeroize(self) -> None:
        """Forget the state; every later use raises `Fatal`."""
        self._key = None
        self._value = bytes(32)

    def _live(self) -> bytes:
        if self._key is None:
            raise Fatal("drbg: no state")
        return self._key

    def _update(self, data: bytes) -> None:
        """HMAC_DRBG_Update (§10.1.2.2)."""
        for separator in (b"\x00", b"\x01") if data else (b"\x00",):
            self._key = hmac.digest(self._live(), self._value + separator + data, "sha256")
            self._value = hmac.digest(self._key, self._value, "sha256")


def _check_entropy(entropy: bytes) -> None:
    if len(entropy) < SEED_BYTES:
        raise KeygenError(f"A seed has at least {SEED_BYTES} bytes, not {len(entropy)}")
