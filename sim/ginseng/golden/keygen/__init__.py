"""The key generator: entropy source, health tests, conditioner, HMAC_DRBG and device secret.

Monitor specification §1. Hash functions and curves are the library's.
"""

from ginseng.golden.keygen.drbg import HmacDrbg
from ginseng.golden.keygen.entropy import (
    BiasedSource,
    CorrelatedSource,
    EntropySource,
    LockedSource,
    PeriodicSource,
    RandomSource,
    StuckSource,
)
from ginseng.golden.keygen.errors import KeygenError
from ginseng.golden.keygen.generator import KeyGenerator
from ginseng.golden.keygen.health import HealthTests
from ginseng.golden.keygen.ladder import (
    DeviceIdentity,
    Ladder,
    UdsRegister,
    attestation_key,
    attestation_public_key,
    uds_register,
)
from ginseng.golden.keygen.scalar import private_key

__all__ = [
    "BiasedSource",
    "CorrelatedSource",
    "DeviceIdentity",
    "EntropySource",
    "HealthTests",
    "HmacDrbg",
    "KeyGenerator",
    "KeygenError",
    "Ladder",
    "LockedSource",
    "PeriodicSource",
    "RandomSource",
    "StuckSource",
    "UdsRegister",
    "attestation_key",
    "attestation_public_key",
    "private_key",
    "uds_register",
]
