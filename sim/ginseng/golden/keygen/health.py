"""Continuous health tests of the raw samples; a failure latches (SP 800-90B §4.4).

The claim is H = 0.5 bit per sample: whatever predicts the next sample is right with probability
2^-0.5 at most. Each cutoff follows from it and a false-alarm rate of 2^-30: per sample for the
repetition count test, per window and counter for the others.
"""

from ginseng.golden.port import Fatal
from ginseng.isa.keygen import APT_CUTOFF, APT_WINDOW, LAGS, RCT_CUTOFF

__all__ = ["HealthTests"]

_HISTORY = (1 << LAGS) - 1


class HealthTests:
    """Repetition count, adaptive proportion, and adaptive proportion at lags 1 to `LAGS`.

    The third is ours (SP 800-90B §4.5 invites such tests): it predicts each sample from an earlier
    one and counts how often it was right, with the window and cutoff of the second. Its windows
    start once there are `LAGS` samples to predict from.

    Guarantees
    ----------
    A stuck source is reported with its 61st equal sample. A source whose period is 1 to 16, or one
    noiseless ring of any frequency that does not change, is reported within 16 + 1,024 samples. A
    change of a running source adds at most one window. Once reported, every call raises.

    Edge cases
    ----------
    Several rings that are locked to different frequencies, or a pseudo-random pattern of a long
    period, pass: no test of the output can tell these from noise.
    """

    def __init__(self) -> None:
        self._failed = ""
        self._samples = 0
        self._last = -1
        self._run = 0
        self._first = 0
        self._equal = 0
        self._at = 0
        self._history = 0
        self._lag_at = 0
        self._right = [0] * LAGS

    @property
    def healthy(self) -> bool:
        """Whether no test has failed since power-up."""
        return not self._failed

    @property
    def samples(self) -> int:
        """Samples taken so far."""
        return self._samples

    def take(self, bit: int) -> None:
        """Test one sample.

        Raises
        ------
        Fatal
            If a test fails now, or failed before.

        """
        # SEC: KEYGEN.HEALTH_LATCH -- nothing but a reset, a new object, clears it.
        if not self._failed:
            # SEC: KEYGEN.HEALTH_TESTS -- every sample, before anything uses it.
            self._failed = self._repetition(bit) or self._proportion(bit) or self._lagged(bit) or ""
            self._samples += 1
        if self._failed:
            raise Fatal(self._failed)

    def _repetition(self, bit: int) -> str | None:
        self._run = self._run + 1 if bit == self._last else 1
        self._last = bit
        return "entropy: repetition count" if self._run >= RCT_CUTOFF else None

    def _proportion(self, bit: int) -> str | None:
        if self._at == 0:
            self._first, self._equal = bit, 0
        self._equal += bit == self._first
        self._at = (self._at + 1) % APT_WINDOW
        return "entropy: adaptive proportion" if self._equal >= APT_CUTOFF else None

    def _lagged(self, bit: int) -> str | None:
        history, self._history = self._history, (self._history << 1 | bit) & _HISTORY
        if self._samples < LAGS:
            return None
        if self._lag_at == 0:
            self._right = [0] * LAGS
        self._lag_at = (self._lag_at + 1) % APT_WINDOW
        for lag in range(LAGS):
            self._right[lag] += (history >> lag & 1) == bit
        return "entropy: lagged proportion" if max(self._right) >= APT_CUTOFF else None
