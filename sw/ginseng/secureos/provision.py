"""The simulated manufacturer: certifies attestation keys (monitor specification §4).

A certificate says whose key a quote is signed with and how well that key is guarded. Whoever runs
a simulated device knows its key, so the root strength stands in the certificate and a verifier
never believes more than that.
"""

import os
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Final, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ginseng.isa.config import RootStrength
from ginseng.secureos.errors import ProvisionError

__all__ = ["ROOT_STRENGTH_OID", "Manufacturer", "device_name", "public_key_of"]

#: X.509 extension with the root strength as UTF8String. A UUID-derived arc (X.667): it needs no
#: registration.
ROOT_STRENGTH_OID: Final = x509.ObjectIdentifier("2.25.62325261061732523939396067132136461644")
_UTF8_STRING: Final = 0x0C
_COORDINATE: Final = 32
_VALIDITY: Final = timedelta(days=3650)
_KEY_FILE: Final = "manufacturer.key.pem"
_CERTIFICATE_FILE: Final = "manufacturer.pem"


def device_name(public_key: bytes) -> str:
    """Return the serial number in a device's subject: SHA-256 of x ‖ y, hexadecimal.

    The ueid of its quotes is the byte 1 before the same hash.
    """
    return sha256(public_key).hexdigest()


def public_key_of(point: bytes) -> ec.EllipticCurvePublicKey:
    """Return the P-256 key x ‖ y.

    Raises
    ------
    ValueError
        If there is no such point on the curve.

    """
    if len(point) != 2 * _COORDINATE:
        raise ValueError(f"A P-256 point is {2 * _COORDINATE} bytes, not {len(point)}")
    return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + point)


class Manufacturer:
    """A root of trust in software, for simulated and development devices.

    Parameters
    ----------
    key : EllipticCurvePrivateKey
        P-256.
    certificate : x509.Certificate
        Self-signed, of that key.

    """

    def __init__(self, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        if key.public_key() != certificate.public_key():
            raise ProvisionError("The manufacturer's certificate is of another key than its own")
        self._key = key
        self._certificate = certificate

    def __repr__(self) -> str:
        return f"Manufacturer({self._certificate.subject.rfc4514_string()!r})"

    @classmethod
    def create(cls, name: str = "Ginseng simulated manufacturer") -> Self:
        """Make a new root with a fresh key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = (
            _builder(subject, subject, key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(key_cert_sign=True), critical=True)
            .sign(key, hashes.SHA256())
        )
        return cls(key, certificate)

    @property
    def root(self) -> bytes:
        """The root certificate, DER: what verifiers trust."""
        return self._certificate.public_bytes(serialization.Encoding.DER)

    def certify(self, public_key: bytes, *, strength: RootStrength) -> bytes:
        """Return the certificate, DER, of a device's attestation key.

        Parameters
        ----------
        public_key : bytes
            x ‖ y, 64 bytes, read from the device in the factory.
        strength : RootStrength
            How well the device guards it.

        Raises
        ------
        ProvisionError
            If there is no such point on the curve, or the strength is more than a manufacturer
            in software can vouch for.

        """
        if strength not in (RootStrength.SIMULATED, RootStrength.DEVELOPMENT):
            raise ProvisionError(
                f"A root strength {strength.value!r} cannot be vouched for by a key in a file "
                f"(possible: {RootStrength.SIMULATED.value}, {RootStrength.DEVELOPMENT.value})"
            )
        try:
            key = public_key_of(public_key)
        except ValueError as error:
            raise ProvisionError(f"This is no attestation key: {error}") from None
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.COMMON_NAME, "Ginseng attestation key"),
                x509.NameAttribute(NameOID.SERIAL_NUMBER, device_name(public_key)),
            ]
        )
        text = strength.value.encode()
        extension = x509.UnrecognizedExtension(
            ROOT_STRENGTH_OID, bytes([_UTF8_STRING, len(text)]) + text
        )
        certificate = (
            _builder(subject, self._certificate.subject, key)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(digital_signature=True), critical=True)
            .add_extension(extension, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.DER)

    def save(self, folder: Path) -> None:
        """Write key (readable by its owner only) and root certificate as PEM into ``folder``.

        Raises
        ------
        ProvisionError
            If ``folder`` has a key already: replacing it would orphan every device of it.

        """
        pem = self._key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        try:
            folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(folder / _KEY_FILE, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(pem)
            (folder / _CERTIFICATE_FILE).write_bytes(
                self._certificate.public_bytes(serialization.Encoding.PEM)
            )
        except FileExistsError:
            raise ProvisionError(
                f"{folder / _KEY_FILE} exists; use it, or choose another folder"
            ) from None
        except OSError as error:
            raise ProvisionError(f"{folder} cannot be written: {error.strerror}") from None

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises
        ------
        ProvisionError
            If a file is missing or is no P-256 key or certificate.

        """
        try:
            key = serialization.load_pem_private_key((folder / _KEY_FILE).read_bytes(), None)
            certificate = x509.load_pem_x509_certificate((folder / _CERTIFICATE_FILE).read_bytes())
        except OSError as error:
            raise ProvisionError(
                f"{folder} holds no manufacturer ({error.strerror}: {error.filename})"
            ) from None
        except (ValueError, TypeError):
            raise ProvisionError(f"{folder} holds a damaged key or certificate") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ProvisionError(f"{folder / _KEY_FILE} is no P-256 key")
        return cls(key, certificate)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))  # clocks of verifiers differ
        .not_valid_after(now + _VALIDITY)
    )


def _usage(*, digital_signature: bool = False, key_cert_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
