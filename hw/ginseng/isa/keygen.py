"""Numbers and labels of the key generator, for gates and model (monitor specification §1).

Nothing here is seen from outside the chip: these are the parts of the key generator in which two
implementations could differ and still be right.
"""

from typing import Final

__all__ = [
    "APT_CUTOFF",
    "APT_WINDOW",
    "ATTESTATION_INFO",
    "CONDITIONER_SAMPLES",
    "LAGS",
    "RCT_CUTOFF",
    "STARTUP_SAMPLES",
    "UDS_BYTES",
]

#: Repetition count test (SP 800-90B §4.4.1): this many equal samples in a row are an alarm.
#: ``1 + 30 / 0.5``, from H = 0.5 bit per sample and a false-alarm rate of 2^-30.
RCT_CUTOFF: Final = 61
#: Adaptive proportion test (SP 800-90B §4.4.2): samples of a window.
APT_WINDOW: Final = 1024
#: This many samples of a window that equal its first are an alarm.
APT_CUTOFF: Final = 811
#: Lags of the third test: ``APT_CUTOFF`` samples of a window that equal the sample 1, 2, … ``LAGS``
#: before them are an alarm. The two standard tests never see an alternating source; this one sees
#: every ring that is locked to the clock: of 16 consecutive multiples of a frequency one lies
#: within 1/17 of an integer (Dirichlet), so at least 1 - 2/17 of the samples repeat at that lag.
LAGS: Final = 16
#: Samples tested before the first is used, and then dropped.
STARTUP_SAMPLES: Final = 1024
#: Samples hashed into each 32 bytes of seed, 8 per byte, the first in the most significant bit.
#: At the claimed 0.5 bit per sample that is twice the entropy that comes out.
CONDITIONER_SAMPLES: Final = 1024

#: Bytes of the device secret.
UDS_BYTES: Final = 32
#: HKDF info of the seed of the attestation key.
ATTESTATION_INFO: Final = b"ginseng attestation key"
