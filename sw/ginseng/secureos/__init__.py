"""The secure-OS runtime, the owners' client, and the verifier between them.

The runtime is the untrusted operator's; owners verify quotes, seal tensors and release keys, and
trust nothing of it. Every message is plain data in `ginseng.secureos.messages`.
"""

from ginseng.secureos.client import DataOwner, ModelOwner
from ginseng.secureos.errors import (
    QuoteRefusedError,
    SecureOsError,
    SessionLostError,
    SessionRefusedError,
)
from ginseng.secureos.local import LocalSession, Step, local_session
from ginseng.secureos.messages import SessionTerms
from ginseng.secureos.policy import Policy
from ginseng.secureos.provision import Manufacturer
from ginseng.secureos.runtime import Limits, Runtime
from ginseng.secureos.verifier import Verdict, verify_quote

__all__ = [
    "DataOwner",
    "Limits",
    "LocalSession",
    "Manufacturer",
    "ModelOwner",
    "Policy",
    "QuoteRefusedError",
    "Runtime",
    "SecureOsError",
    "SessionLostError",
    "SessionRefusedError",
    "SessionTerms",
    "Step",
    "Verdict",
    "local_session",
    "verify_quote",
]
