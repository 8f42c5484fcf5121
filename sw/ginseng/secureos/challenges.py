"""Nonces of quotes: fresh, used once, and not for long."""

import secrets
import time
from collections.abc import Callable

from ginseng.secureos.errors import SessionError
from ginseng.secureos.messages import CHALLENGE_BYTES

__all__ = ["Challenges"]


class Challenges:
    """The one challenge that a verifier has open.

    Parameters
    ----------
    seconds : float
        How old a challenge may be when its quote comes.
    clock : callable
        Seconds, monotonic.

    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._open: tuple[bytes, float] | None = None

    def issue(self) -> bytes:
        """Return a fresh nonce; an earlier one is void."""
        nonce = secrets.token_bytes(CHALLENGE_BYTES)
        self._open = (nonce, self._clock())
        return nonce

    def redeem(self) -> bytes:
        """Return the open nonce and void it.

        Raises
        ------
        SessionError
            If there is none, or it is too old.

        """
        issued, self._open = self._open, None
        if issued is None:
            raise SessionError("No challenge is open; issue one, and ask for a quote over it")
        if self._clock() - issued[1] > self._seconds:
            raise SessionError(
                f"The challenge is older than {self._seconds} s; issue another and ask again"
            )
        return issued[0]
