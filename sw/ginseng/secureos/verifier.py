"""Appraising a quote: who signed it, for whom, and whether it says what was expected.

Monitor specification §4.
"""

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final, Literal

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec

from ginseng.isa.config import RootStrength
from ginseng.isa.formats import (
    EAT_PROFILE,
    ENTROPY_HEALTHY,
    OEM_ID,
    PCR_BYTES,
    DebugStatus,
    Pcr,
)
from ginseng.program import Measurements
from ginseng.secureos.errors import QuoteRefusedError
from ginseng.secureos.evidence import Evidence, parse_quote, signature_is_valid
from ginseng.secureos.exposure import ExportReader
from ginseng.secureos.policy import Policy
from ginseng.secureos.provision import ROOT_STRENGTH_OID, device_name

__all__ = ["Stage", "Verdict", "verify_quote"]

#: Which reference values: just after LOCK, or once every sealed measured tensor is imported.
Stage = Literal["locked", "final"]

_CERTIFICATE_LIMIT: Final = 1 << 12
_COORDINATE: Final = 32
#: First byte of a ueid that is a hash.
_UEID_HASH: Final = b"\x01"
#: EAR and AR4SI (drafts of the IETF RATS group): tiers of a trustworthiness claim.
_EAR_PROFILE: Final = "tag:github.com,2023:veraison/ear"
_AFFIRMING, _WARNING, _CONTRAINDICATED = 2, 32, 96
_TIERS: Final = {_AFFIRMING: "affirming", _WARNING: "warning", _CONTRAINDICATED: "contraindicated"}
#: Which EAR claim a claim of ours speaks for; the rest is the identity of the instance.
_EAR_CLAIMS: Final = {
    "hardware": ("root_strength", "entropy_health"),
    "configuration": ("dbgstat", "svn", "pcr0", "pcr2", "pcr7", "table"),
    "executables": ("pcr1", "pcr3", "pcr4", "program"),
}


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What came of a quote.

    Attributes
    ----------
    accepted : bool
    claim : str or None
        The claim that failed; None if accepted.
    reason : str
    evidence : Evidence or None
        The claims, if they could be read. Not to be believed unless accepted.
    exports : tuple of ExportReader
        Who can read what the program stores, if a program was shown.
    policy : str
        `Policy.name` that was applied.

    """

    accepted: bool
    claim: str | None
    reason: str
    evidence: Evidence | None = None
    exports: tuple[ExportReader, ...] = ()
    policy: str = ""

    def require(self) -> Evidence:
        """Return the evidence of an accepted quote.

        Raises
        ------
        QuoteRefusedError
            If it was refused.

        """
        if not self.accepted or self.evidence is None:
            raise QuoteRefusedError(self.claim or "encoding", self.reason)
        return self.evidence

    def showing(self, exports: tuple[ExportReader, ...]) -> "Verdict":
        """Return the same verdict with who can read the exports."""
        return replace(self, exports=exports)

    @property
    def document(self) -> dict[str, Any]:
        """The verdict as a JSON document: ``accepted, claim, reason, exports, ear``."""
        return {
            "accepted": self.accepted,
            "claim": self.claim,
            "reason": self.reason,
            "exports": [reader.document for reader in self.exports],
            "ear": self._ear(),
        }

    def _ear(self) -> dict[str, Any]:
        """Return an EAT attestation result: one submodule, a vector, the worst tier as status."""
        vector = dict.fromkeys(("instance-identity", *_EAR_CLAIMS), 0)
        if self.accepted and self.evidence is not None:
            vector = dict.fromkeys(vector, _AFFIRMING)
            if self.evidence.root_strength is not RootStrength.HARDWARE:
                vector["hardware"] = _WARNING
        elif self.claim is not None:
            failed = (name for name, claims in _EAR_CLAIMS.items() if self.claim in claims)
            vector[next(failed, "instance-identity")] = _CONTRAINDICATED
        return {
            "eat_profile": _EAR_PROFILE,
            "ear.verifier-id": {"developer": "Ginseng", "build": "ginseng.secureos.verifier"},
            "submods": {
                "ginseng": {
                    "ear.status": _TIERS[max(vector.values())],
                    "ear.trustworthiness-vector": vector,
                    "ear.appraisal-policy-id": f"sha-256:{self.policy}",
                }
            },
        }


def verify_quote(
    quote: bytes,
    *,
    nonce: bytes,
    chain: Sequence[bytes],
    roots: Sequence[bytes],
    policy: Policy,
    measurements: Measurements | None = None,
    stage: Stage = "final",
    runs: int = 0,
    run_register: bytes = bytes(PCR_BYTES),
    at: datetime | None = None,
) -> Verdict:
    """Appraise ``quote``; hostile bytes give a verdict, never an exception.

    Parameters
    ----------
    quote : bytes
        COSE_Sign1, tagged.
    nonce : bytes
        The challenge that it must answer; its freshness is the caller's (`Challenges`).
    chain : sequence of bytes
        Certificates as the host sent them, DER: the device's alone, or with its root.
    roots : sequence of bytes
        Manufacturers that are trusted, DER.
    policy : Policy
        What is demanded of a device.
    measurements : Measurements or None
        Reference values; None takes the policy's.
    stage : {"locked", "final"}
        Which of them.
    runs : int
        Runs that the session must have done.
    run_register : bytes
        Reference value of PCR6; zero before the first run.
    at : datetime or None
        When certificates must be valid; now by default.

    Returns
    -------
    Verdict
        Naming the first claim that failed, in the order: encoding, header, chain, ueid,
        signature, nonce, profile, oemid, root strength, dbgstat, svn, entropy health,
        registers, runs.

    """
    evidence: Evidence | None = None
    try:
        reference = measurements or policy.reference
        if reference is None:
            raise QuoteRefusedError("policy", "there are no reference values to compare with")
        evidence = parse_quote(quote)
        key, strength = _device_key(chain, roots, at or datetime.now(UTC))
        if evidence.ueid != _UEID_HASH + bytes.fromhex(device_name(key)):
            raise QuoteRefusedError("ueid", "it names another device than the certificate")
        if not signature_is_valid(quote, key):
            raise QuoteRefusedError("signature", "the certified device did not sign this")
        _appraise(evidence, nonce=nonce, policy=policy, strength=strength)
        expected = list(reference.locked if stage == "locked" else reference.final)
        expected[Pcr.RUNS] = run_register
        for register, (value, wanted) in enumerate(zip(evidence.pcrs, expected, strict=True)):
            if not hmac.compare_digest(value, wanted):
                raise QuoteRefusedError(
                    f"pcr{register}",
                    f"{Pcr(register).name.lower()} measures {value.hex()[:16]}…, "
                    f"expected is {wanted.hex()[:16]}…",
                )
        if evidence.runs != runs:
            raise QuoteRefusedError("runs", f"the session did {evidence.runs} runs, not {runs}")
    except QuoteRefusedError as error:
        return Verdict(
            accepted=False,
            claim=error.claim,
            reason=error.reason,
            evidence=evidence,
            policy=policy.name,
        )
    return Verdict(
        accepted=True,
        claim=None,
        reason="every claim is as expected",
        evidence=evidence,
        policy=policy.name,
    )


def _appraise(evidence: Evidence, *, nonce: bytes, policy: Policy, strength: RootStrength) -> None:
    """Check every claim but the registers."""
    debug = (DebugStatus.ENABLED,) if policy.allow_debug else ()
    rules: Mapping[str, tuple[bool, str]] = {
        "eat_nonce": (hmac.compare_digest(evidence.nonce, nonce), "it answers another challenge"),
        "eat_profile": (evidence.profile == EAT_PROFILE, f"it is not {EAT_PROFILE}"),
        "oemid": (evidence.oemid == OEM_ID, "it is another manufacturer's"),
        # SEC: VERIFY.ROOT_STRENGTH -- whoever simulates a device can sign any claim with its key.
        "root_strength": (
            evidence.root_strength is strength and strength in policy.root_strengths,
            f"the quote claims {evidence.root_strength.value}, the certificate "
            f"{strength.value}; accepted: "
            f"{', '.join(sorted(s.value for s in policy.root_strengths)) or 'none'}",
        ),
        "dbgstat": (
            evidence.dbgstat in (DebugStatus.DISABLED_SINCE_BOOT, *debug),
            "the build reveals causes of faults",
        ),
        "svn": (
            evidence.svn >= policy.min_svn,
            f"the monitor is version {evidence.svn}, the least accepted is {policy.min_svn}",
        ),
        "entropy_health": (
            evidence.entropy_health == ENTROPY_HEALTHY,
            "a health test of the entropy source failed",
        ),
    }
    for claim, (holds, reason) in rules.items():
        if not holds:
            raise QuoteRefusedError(claim, reason)


def _device_key(
    chain: Sequence[bytes], roots: Sequence[bytes], at: datetime
) -> tuple[bytes, RootStrength]:
    """Return the certified key x ‖ y and how well it is guarded."""
    if not chain or len(chain) > 2 or any(len(der) > _CERTIFICATE_LIMIT for der in chain):
        raise QuoteRefusedError("chain", "it is one device certificate, and its root at most")
    try:
        device = x509.load_der_x509_certificate(chain[0])
        issuers = [x509.load_der_x509_certificate(der) for der in roots]
        issuer = next((root for root in issuers if _is_issued_by(device, root)), None)
        if issuer is None:
            raise QuoteRefusedError("chain", "no manufacturer that is trusted issued it")
        if not issuer.extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            raise QuoteRefusedError("chain", "its issuer is no certification authority")
        for certificate in (device, issuer):
            if not certificate.not_valid_before_utc <= at <= certificate.not_valid_after_utc:
                raise QuoteRefusedError("chain", "a certificate is not valid at this time")
        extensions = device.extensions
        if extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            raise QuoteRefusedError("chain", "the device's certificate is an authority's")
        if not extensions.get_extension_for_class(x509.KeyUsage).value.digital_signature:
            raise QuoteRefusedError("chain", "the device's certificate is not for signatures")
        strength = _strength(extensions)
        key = device.public_key()
    except QuoteRefusedError:
        raise
    except (ValueError, TypeError, x509.ExtensionNotFound, x509.DuplicateExtension) as error:
        raise QuoteRefusedError("chain", f"a certificate is malformed ({error})") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise QuoteRefusedError("chain", "the device's key is not of P-256")
    numbers = key.public_numbers()
    return b"".join(n.to_bytes(_COORDINATE, "big") for n in (numbers.x, numbers.y)), strength


def _is_issued_by(device: x509.Certificate, root: x509.Certificate) -> bool:
    if device.issuer != root.subject:
        return False
    try:
        device.verify_directly_issued_by(root)
    except InvalidSignature:
        return False
    return True


def _strength(extensions: x509.Extensions) -> RootStrength:
    extension = extensions.get_extension_for_oid(ROOT_STRENGTH_OID).value
    assert isinstance(extension, x509.UnrecognizedExtension)  # no library knows our OID
    text = extension.value[2:]
    if extension.value[:2] != bytes([0x0C, len(text)]):
        raise QuoteRefusedError("chain", "its root strength is no UTF8String")
    return RootStrength(text.decode())
