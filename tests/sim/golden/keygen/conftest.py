"""The verified HMAC_DRBG of HACL*."""

import pytest
from pyhacl.drbg import DRBGRandom, SpecHashDefinitions


@pytest.fixture(scope="session")
def drbg_oracle():
    """Return a function of (entropy, nonce, personalization)."""
    return lambda entropy, nonce, personalization: DRBGRandom(
        SpecHashDefinitions.SHA2_256, entropy, nonce, personalization
    )
