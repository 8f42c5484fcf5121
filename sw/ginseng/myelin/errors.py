"""What can go wrong in Myelin."""

__all__ = ["MyelinError", "PrivacyError"]


class MyelinError(Exception):
    """Myelin cannot do what it was asked."""


class PrivacyError(MyelinError):
    """What was asked for would break, or could not keep, a privacy guarantee."""
