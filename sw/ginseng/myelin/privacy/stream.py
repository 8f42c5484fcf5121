"""Randomness of a training run: one key per step and purpose, none of them ever twice."""

import secrets
from typing import Final

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from ginseng.myelin.errors import PrivacyError

__all__ = ["KEY_BYTES", "RunKey", "Stream"]

#: Of a run, and of AES-256.
KEY_BYTES: Final = 32
_WORD_BYTES: Final = 8


class Stream:
    """The words of AES-256 in counter mode under a key that nothing else has.

    Parameters
    ----------
    key : bytes
        `KEY_BYTES`.

    """

    def __init__(self, key: bytes) -> None:
        self._pads = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()

    def __repr__(self) -> str:
        return "Stream(key hidden)"

    def words(self, count: int) -> npt.NDArray[np.uint64]:
        """Return the next ``count`` uniform 64-bit words, little-endian in the stream."""
        return np.frombuffer(self._pads.update(bytes(_WORD_BYTES * count)), "<u8").astype(np.uint64)

    def bits(self, count: int) -> int:
        """Return the next ``count`` bits, a multiple of 64, as a number."""
        words = self.words(-(-count // 64))
        return int.from_bytes(words.astype("<u8").tobytes(), "little")


class RunKey:
    """The secret of one training run, from which the key of every step and purpose is derived.

    Parameters
    ----------
    key : bytes or None
        `KEY_BYTES` that the same run had before it was interrupted; by default from the operating
        system, which inside an enclave is hardware entropy.
    first_step : int
        The first step whose streams may be taken: those before were, in the run that goes on.

    Raises
    ------
    PrivacyError
        If the key has another length.

    """

    def __init__(self, key: bytes | None = None, *, first_step: int = 0) -> None:
        self._key = secrets.token_bytes(KEY_BYTES) if key is None else bytes(key)
        if len(self._key) != KEY_BYTES:
            raise PrivacyError(f"RunKey has {KEY_BYTES} bytes, not {len(self._key)}")
        self._first = first_step
        self._taken: set[tuple[int, str]] = set()

    def __repr__(self) -> str:
        return "RunKey(hidden)"

    def stream(self, step: int, purpose: str) -> Stream:
        """Return the stream of a step and purpose (``sample``, ``noise/NAME``), once.

        Raises
        ------
        PrivacyError
            If it was given before: two sums with the same noise differ by what was to be hidden.

        """
        if step < self._first:
            raise PrivacyError(
                f"Step {step} was done before this run went on at step {self._first}; its noise "
                f"must not be used again"
            )
        if (step, purpose) in self._taken:
            raise PrivacyError(f"Stream {purpose!r} of step {step} was used; take the next step")
        self._taken.add((step, purpose))
        info = b"ginseng myelin 1" + step.to_bytes(8, "big") + purpose.encode()
        return Stream(HKDFExpand(SHA256(), KEY_BYTES, info).derive(self._key))
