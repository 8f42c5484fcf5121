"""P-256 private keys from a generator, by rejection sampling (FIPS 186-5 §A.2.2)."""

from cryptography.hazmat.primitives.asymmetric import ec

from ginseng.golden.keygen.drbg import HmacDrbg

__all__ = ["ORDER", "SCALAR_BYTES", "private_key"]

#: Order of P-256 (SP 800-186 §3.2.1.3).
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
#: Bytes of a private scalar.
SCALAR_BYTES = 32


def private_key(drbg: HmacDrbg) -> ec.EllipticCurvePrivateKey:
    """Draw a uniform private key: 32 bytes, big-endian, again until 1 to n - 1.

    Raises
    ------
    Fatal
        If the generator has no state.

    """
    while True:
        scalar = int.from_bytes(drbg.generate(SCALAR_BYTES), "big")
        # SEC: KEYGEN.REJECTION_SAMPLING -- reducing instead would favour small scalars.
        if 1 <= scalar < ORDER:
            return ec.derive_private_key(scalar, ec.SECP256R1())
