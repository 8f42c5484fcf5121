"""What `ginseng.secureos` raises."""

__all__ = [
    "AttackError",
    "MessageError",
    "PolicyError",
    "ProvisionError",
    "QueueFullError",
    "QuoteRefusedError",
    "ResultError",
    "RunReuseError",
    "SecureOsError",
    "SessionError",
    "SessionLostError",
    "SessionRefusedError",
    "TermsError",
]


class SecureOsError(Exception):
    """Base of every error of ``ginseng.secureos``."""


class MessageError(SecureOsError):
    """Bytes that are no message of the kind that was expected."""


class PolicyError(SecureOsError):
    """A policy file that cannot be used."""


class ProvisionError(SecureOsError):
    """A manufacturer's key, certificate or folder that cannot be used."""


class TermsError(SecureOsError):
    """Terms of a session that a party does not agree to."""


class QuoteRefusedError(SecureOsError):
    """An owner refused a quote, and so released nothing.

    Attributes
    ----------
    claim : str
        The claim that failed.
    reason : str

    """

    def __init__(self, claim: str, reason: str) -> None:
        super().__init__(f"The quote is refused, {claim}: {reason}")
        self.claim = claim
        self.reason = reason


class RunReuseError(SecureOsError):
    """Another plaintext under a run number that was used; it would repeat nonces."""


class ResultError(SecureOsError):
    """A result that does not open as the result of the run it is offered for."""


class SessionError(SecureOsError):
    """A session that does not exist, is not in the right state, or is over."""


class SessionRefusedError(SessionError):
    """The device refused a session's table, slots, import, key or run; it names the rule."""


class SessionLostError(SessionError):
    """The device went FATAL or silent: the session and its keys are gone, a new one is needed."""


class QueueFullError(SessionError):
    """A client has as many sessions waiting as the operator allows."""


class AttackError(SecureOsError):
    """An attack that cannot be tried on this program, or one that nothing noticed."""
