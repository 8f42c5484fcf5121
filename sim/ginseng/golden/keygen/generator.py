"""Entropy source → health tests → conditioner → DRBG → keys (monitor specification §1)."""

import hashlib
from typing import NoReturn

from cryptography.hazmat.primitives.asymmetric import ec

from ginseng.golden.keygen.drbg import SEED_BYTES, HmacDrbg
from ginseng.golden.keygen.entropy import EntropySource
from ginseng.golden.keygen.health import HealthTests
from ginseng.golden.keygen.scalar import private_key
from ginseng.golden.port import Fatal
from ginseng.isa.keygen import CONDITIONER_SAMPLES, STARTUP_SAMPLES

__all__ = ["KeyGenerator"]


class KeyGenerator:
    """Where every key of a session comes from.

    `start` must come first: it tests the source and seeds the DRBG. What goes wrong is `Fatal`,
    and stays so.

    Parameters
    ----------
    source : EntropySource
        Sampled only while seed is made; in gates it runs, and is tested, all the time.

    """

    def __init__(self, source: EntropySource) -> None:
        self._source = source
        self._health = HealthTests()
        self._drbg: HmacDrbg | None = None

    def __repr__(self) -> str:
        return f"KeyGenerator(healthy={self.healthy})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("KeyGenerator holds the state of every future key and is never pickled")

    @property
    def healthy(self) -> bool:
        """Whether no health test has failed since power-up."""
        return self._health.healthy

    def start(self) -> None:
        """Test the source, drop what was tested, and seed the DRBG from what follows.

        Raises
        ------
        Fatal
            If a health test fails.

        """
        # SEC: KEYGEN.STARTUP_TEST
        for _ in range(STARTUP_SAMPLES):
            self._sample()
        entropy = self._seed()
        self._drbg = HmacDrbg(entropy, nonce=self._seed())

    def reseed(self) -> None:
        """Mix 256 bits of fresh entropy into the DRBG.

        Raises
        ------
        Fatal
            If a health test fails, or `start` has not been.

        """
        self._live().reseed(self._seed())

    def key(self, nbytes: int) -> bytes:
        """Return a fresh symmetric key.

        Raises
        ------
        Fatal
            If a health test has failed, or `start` has not been.

        """
        return self._live().generate(nbytes)

    def private_key(self) -> ec.EllipticCurvePrivateKey:
        """Return a fresh P-256 key.

        Raises
        ------
        Fatal
            If a health test has failed, or `start` has not been.

        """
        return private_key(self._live())

    def zeroize(self) -> None:
        """Forget the DRBG's state; only `start` brings keys back."""
        if self._drbg is not None:
            self._drbg.zeroize()
        self._drbg = None

    def _sample(self) -> int:
        bit = self._source.sample()
        try:
            self._health.take(bit)
        except Fatal:
            # SEC: KEYGEN.NO_KEY_AFTER_ALARM -- the latch keeps `start` from seeding it again.
            self.zeroize()
            raise
        return bit

    def _seed(self) -> bytes:
        """Condition fresh samples into one seed."""
        bits = 0
        # SEC: KEYGEN.OVERSAMPLING -- twice the entropy that comes out, at the claimed rate.
        for _ in range(CONDITIONER_SAMPLES):
            bits = bits << 1 | self._sample()
        seed = hashlib.sha256(bits.to_bytes(CONDITIONER_SAMPLES // 8, "big")).digest()
        return seed[:SEED_BYTES]

    def _live(self) -> HmacDrbg:
        if self._drbg is None:
            raise Fatal("drbg: no seed")
        return self._drbg
