"""From the device secret to the attestation key, in steps that cannot be taken back (DICE)."""

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from typing import Final, NoReturn, Self

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ginseng.golden.keygen.drbg import HmacDrbg
from ginseng.golden.keygen.errors import KeygenError
from ginseng.golden.keygen.scalar import private_key
from ginseng.golden.port import Fatal
from ginseng.isa.config import RootStrength, SystemConfig
from ginseng.isa.errors import ConfigError
from ginseng.isa.formats import MODEL_MONITOR_ROM
from ginseng.isa.keygen import ATTESTATION_INFO, UDS_BYTES

__all__ = [
    "DeviceIdentity",
    "Ladder",
    "UdsRegister",
    "attestation_key",
    "attestation_public_key",
    "uds_register",
]

#: What `DeviceIdentity.generate` takes for a bit-stream: there is none.
_MODEL_BITSTREAM: Final = hashlib.sha256(b"ginseng golden model: no bit-stream").digest()


@dataclass(frozen=True)
class DeviceIdentity:
    """What makes one device this device.

    Attributes
    ----------
    uds : bytes
        The unique device secret, 32 bytes; not in ``repr``.
    bitstream_id : bytes
        Names the bit-stream, 32 bytes.
    svn : int
        Security version number of the monitor, 64 bits.

    Raises
    ------
    KeygenError
        If a part has another size.

    """

    uds: bytes = field(repr=False)
    bitstream_id: bytes = _MODEL_BITSTREAM
    svn: int = 1

    def __post_init__(self) -> None:
        if len(self.uds) != UDS_BYTES:
            raise KeygenError(f"A device secret has {UDS_BYTES} bytes, not {len(self.uds)}")
        if len(self.bitstream_id) != len(_MODEL_BITSTREAM):
            raise KeygenError(
                f"A bit-stream id has {len(_MODEL_BITSTREAM)} bytes, not {len(self.bitstream_id)}; "
                "hash what names it"
            )
        if not 0 <= self.svn < 1 << 64:
            raise KeygenError(f"A security version number has 64 bits, {self.svn} does not fit")

    @classmethod
    def generate(cls, *, bitstream_id: bytes = _MODEL_BITSTREAM, svn: int = 1) -> Self:
        """Make up a new device, with a secret from the operating system."""
        return cls(secrets.token_bytes(UDS_BYTES), bitstream_id, svn)


class UdsRegister:
    """The device secret in a provisioned register file: read once, then locked until reset.

    Anyone who can read the bit-stream or the registers' loader can read it, so it is good for
    simulation and for development boards only.

    Parameters
    ----------
    uds : bytes

    """

    #: The roots that may be claimed of it.
    strengths = frozenset({RootStrength.SIMULATED, RootStrength.DEVELOPMENT})

    def __init__(self, uds: bytes) -> None:
        self._uds: bytes | None = uds

    def __repr__(self) -> str:
        return f"UdsRegister(locked={self._uds is None})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("UdsRegister holds the device secret and is never pickled or copied")

    def read(self) -> bytes:
        """Return the secret, the first time.

        Raises
        ------
        Fatal
            If it was read before.

        """
        # SEC: KEYGEN.UDS_LOCK
        uds, self._uds = self._uds, None
        if uds is None:
            raise Fatal("ladder: device secret is locked")
        return uds

    def lock(self) -> None:
        """Give the secret to nobody until reset, whether or not it was read."""
        self._uds = None


def uds_register(config: SystemConfig, identity: DeviceIdentity) -> UdsRegister:
    """Return where ``identity`` keeps its secret.

    Raises
    ------
    ConfigError
        If the model has nothing of the strength that ``config.root`` claims.

    """
    # SEC: KEYGEN.ROOT_HONESTY -- no quote may claim a root that is not there.
    if config.root not in UdsRegister.strengths:
        raise ConfigError(
            f"SystemConfig.root {config.root.value!r} needs fuses or a PUF, and the model keeps "
            "its secret in a register file; choose one of "
            f"{', '.join(sorted(root.value for root in UdsRegister.strengths))}"
        )
    return UdsRegister(identity.uds)


def attestation_key(
    uds: UdsRegister, *, bitstream_id: bytes, digest: bytes, rom: bytes, svn: int
) -> ec.EllipticCurvePrivateKey:
    """Climb the whole ladder.

    Parameters
    ----------
    uds : UdsRegister
        Locked afterwards.
    bitstream_id, digest : bytes
        What the hardware is.
    rom : bytes
        SHA-256 of the monitor ROM.
    svn : int
        Security version number.

    Raises
    ------
    Fatal
        If the secret was read before.

    """
    ladder = Ladder(uds)
    ladder.measure_hardware(bitstream_id, digest)
    ladder.measure_monitor(rom, svn)
    return ladder.attestation_key()


class Ladder:
    """Three rungs: hardware, monitor, attestation key. Each erases the secret of the one below.

    Parameters
    ----------
    uds : UdsRegister
        Read at once, and so locked.

    Raises
    ------
    Fatal
        From every method: if it is not the next step.

    """

    def __init__(self, uds: UdsRegister) -> None:
        self._secret: bytes | None = uds.read()
        self._rung = 0

    def __repr__(self) -> str:
        return f"Ladder(rung={self._rung})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("Ladder holds the device secret and is never pickled or copied")

    def measure_hardware(self, bitstream_id: bytes, digest: bytes) -> None:
        """CDI0 = HMAC(UDS, H(bit-stream id ‖ configuration digest))."""
        inner = hashlib.sha256(bitstream_id + digest).digest()
        self._secret = hmac.digest(self._take(0), inner, "sha256")

    def measure_monitor(self, rom: bytes, svn: int) -> None:
        """CDI1 = HMAC(CDI0, H(monitor ROM) ‖ svn); ``rom`` is the hash."""
        self._secret = hmac.digest(self._take(1), rom + svn.to_bytes(8, "big"), "sha256")

    def attestation_key(self) -> ec.EllipticCurvePrivateKey:
        """Return the key whose seed is HKDF-SHA256(CDI1, "ginseng attestation key")."""
        seed = HKDF(SHA256(), 32, None, ATTESTATION_INFO).derive(self._take(2))
        return private_key(HmacDrbg(seed))

    def _take(self, rung: int) -> bytes:
        """Step from ``rung`` to the next; what it held is gone from here on."""
        # SEC: KEYGEN.LADDER_ONE_WAY
        secret, self._secret = self._secret, None
        if secret is None or rung != self._rung:
            self._rung = -1
            raise Fatal("ladder: illegal step")
        self._rung += 1
        return secret


def attestation_public_key(
    config: SystemConfig, identity: DeviceIdentity, *, monitor_rom: bytes = MODEL_MONITOR_ROM
) -> ec.EllipticCurvePublicKey:
    """Return the key that a manufacturer certifies for this device and build.

    Raises
    ------
    ConfigError
        If the model has no root of the strength that ``config`` claims.

    """
    return attestation_key(
        uds_register(config, identity),
        bitstream_id=identity.bitstream_id,
        digest=config.digest,
        rom=hashlib.sha256(monitor_rom).digest(),
        svn=identity.svn,
    ).public_key()
