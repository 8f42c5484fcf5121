"""Known answers that a device computes before it opens a session (monitor specification §3)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256, Hash

from ginseng.golden.keygen.drbg import HmacDrbg
from ginseng.golden.port import Fatal

__all__ = ["KnownAnswer", "known_answers", "require"]

#: McGrew and Viega, "The Galois/Counter Mode of Operation", test cases 3 (128 bits) and 15 (256).
_GCM_KEY: Final = bytes.fromhex("feffe9928665731c6d6a8f9467308308")
_GCM_NONCE: Final = bytes.fromhex("cafebabefacedbaddecaf888")
_GCM_TEXT: Final = bytes.fromhex(
    "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
    "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255"
)
_GCM_SEALED: Final = {
    128: bytes.fromhex(
        "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e"
        "21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091473f5985"
        "4d5c2af327cd64a62cf35abd2ba6fab4"
    ),
    256: bytes.fromhex(
        "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
        "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662898015ad"
        "b094dac5d93471bdec1a502270e3cc6c"
    ),
}
#: FIPS 180-2, appendix B.2: a message of two blocks.
_SHA_TEXT: Final = b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"
_SHA_DIGEST: Final = bytes.fromhex(
    "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
)
#: RFC 6979 §A.2.5, P-256 with SHA-256 and message "sample". Its k is the first output of an
#: HMAC_DRBG whose entropy is the private key and whose nonce is the hash, so it serves both.
_EC_MESSAGE: Final = b"sample"
_EC_PRIVATE: Final = 0xC9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721
_EC_PUBLIC: Final = bytes.fromhex(
    "60fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6"
    "7903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299"
)
_EC_NONCE: Final = bytes.fromhex("a6e3c57dd01abe90086538398355dd4c3b17aa873382b0f24d6129493d8aad60")
_EC_SIGNATURE: Final = bytes.fromhex(
    "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716"
    "f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8"
)
_REFUSED: Final = b"refused"
_ACCEPTED: Final = b"accepted"


@dataclass(frozen=True)
class KnownAnswer:
    """One computation whose result is known."""

    name: str
    compute: Callable[[], bytes]
    expected: bytes


def require(answers: Sequence[KnownAnswer]) -> None:
    """Compute every answer.

    Raises
    ------
    Fatal
        If one is wrong.

    """
    for answer in answers:
        if answer.compute() != answer.expected:
            raise Fatal(f"self-test: {answer.name}")


def known_answers(key_bits: int) -> tuple[KnownAnswer, ...]:
    """Return the self-tests of a build whose TEC has keys of ``key_bits``."""
    gcm = AESGCM(_GCM_KEY * (key_bits // 128))
    sealed = _GCM_SEALED[key_bits]

    def reject_tag() -> bytes:
        try:
            gcm.decrypt(_GCM_NONCE, sealed[:-1] + bytes([sealed[-1] ^ 1]), None)
        except InvalidTag:
            return _REFUSED
        return _ACCEPTED

    return (
        KnownAnswer("AES-GCM encryption", lambda: gcm.encrypt(_GCM_NONCE, _GCM_TEXT, None), sealed),
        KnownAnswer("AES-GCM decryption", lambda: gcm.decrypt(_GCM_NONCE, sealed, None), _GCM_TEXT),
        KnownAnswer("AES-GCM rejection", reject_tag, _REFUSED),
        KnownAnswer("SHA-256", lambda: _sha256(_SHA_TEXT), _SHA_DIGEST),
        KnownAnswer("HMAC_DRBG", _drbg, _EC_NONCE),
        KnownAnswer("P-256 public key", _public, _EC_PUBLIC),
        KnownAnswer("P-256 signature", _sign, _EC_SIGNATURE),
        KnownAnswer("P-256 rejection", _reject_signature, _REFUSED),
        KnownAnswer("P-256 key agreement", _agree, _EC_PUBLIC[:32]),
    )


def _sha256(data: bytes) -> bytes:
    digest = Hash(SHA256())
    digest.update(data)
    return digest.finalize()


def _drbg() -> bytes:
    return HmacDrbg(_EC_PRIVATE.to_bytes(32, "big"), _sha256(_EC_MESSAGE)).generate(32)


def _key() -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(_EC_PRIVATE, ec.SECP256R1())


def _public() -> bytes:
    numbers = _key().public_key().public_numbers()
    return numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")


def _sign() -> bytes:
    der = _key().sign(_EC_MESSAGE, ec.ECDSA(SHA256(), deterministic_signing=True))
    return b"".join(n.to_bytes(32, "big") for n in decode_dss_signature(der))


def _reject_signature() -> bytes:
    r = int.from_bytes(_EC_SIGNATURE[:32], "big")
    s = int.from_bytes(_EC_SIGNATURE[32:], "big") ^ 1
    try:
        _key().public_key().verify(encode_dss_signature(r, s), _EC_MESSAGE, ec.ECDSA(SHA256()))
    except InvalidSignature:
        return _REFUSED
    return _ACCEPTED


def _agree() -> bytes:
    """ECDH with the base point, the public key of 1: x of our own public key."""
    base = ec.derive_private_key(1, ec.SECP256R1()).public_key()
    return _key().exchange(ec.ECDH(), base)
