"""The one exception of this package."""

__all__ = ["CryptoError"]


class CryptoError(ValueError):
    """A parameter that no cipher of this package has."""
