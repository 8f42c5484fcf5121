"""What every owner does: commit, agree to terms, appraise quotes, release keys.

An owner trusts itself, the manufacturer's root and the hardware; not the host, not other owners.
"""

import time
from collections.abc import Callable, Mapping, Sequence

from ginseng.program import Measurements, Program, ProgramError, loads, measure
from ginseng.secureos.challenges import Challenges
from ginseng.secureos.errors import SessionError, TermsError
from ginseng.secureos.exposure import check_program, export_readers
from ginseng.secureos.keys import SlotSecret
from ginseng.secureos.messages import KeyRelease, QuoteReply, SessionTerms, SlotCommitment
from ginseng.secureos.policy import Policy
from ginseng.secureos.verifier import Stage, Verdict, verify_quote

__all__ = ["Agreement", "Owner"]


class Agreement:
    """Terms that an owner checked, and what it expects a device to report for them."""

    def __init__(self, terms: SessionTerms) -> None:
        try:
            self.program: Program = loads(terms.program, name="The program of the terms")
            self.commitments: Mapping[int, bytes] = {
                entry.slot: entry.commitment for entry in terms.commitments
            }
            if len(self.commitments) != len(terms.commitments):
                raise TermsError("The terms commit a slot twice")
            if not 1 <= terms.max_runs < 1 << 48:
                raise TermsError(f"max_runs is 1 to 2^48 - 1, not {terms.max_runs}")
            if len(terms.monitor_rom) != 32:
                raise TermsError("The hash of the monitor ROM has 32 bytes")
            self.measurements: Measurements = measure(
                self.program,
                commitments=self.commitments,
                max_runs=terms.max_runs,
                monitor_rom=terms.monitor_rom,
            )
        except ProgramError as error:
            raise TermsError(str(error)) from None


class Owner:
    """One party of a session; see `ModelOwner` and `DataOwner`.

    Parameters
    ----------
    name : str
        The owner of its slots in a program's manifest.
    roots : sequence of bytes
        Manufacturers that it trusts, DER.
    policy : Policy
        What it demands of a device.
    clock : callable
        Seconds, monotonic; for the age of challenges.

    """

    #: Which reference values a quote must show before keys are released.
    stage: Stage = "final"

    def __init__(
        self,
        name: str,
        *,
        roots: Sequence[bytes],
        policy: Policy,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.policy = policy
        self._roots = tuple(roots)
        self._challenges = Challenges(policy.nonce_seconds, clock)
        self._secrets: dict[int, SlotSecret] = {}
        self._agreement: Agreement | None = None
        self._verdict: Verdict | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, slots={sorted(self._secrets)})"

    @property
    def commitments(self) -> tuple[SlotCommitment, ...]:
        """What this owner publishes, in ascending order of slots."""
        return tuple(self._secrets[slot].commitment for slot in sorted(self._secrets))

    @property
    def verdict(self) -> Verdict | None:
        """What came of the last quote under the present terms."""
        return self._verdict

    def agree(self, terms: SessionTerms) -> None:
        """Check ``terms`` and compute what a genuine device will report for them.

        Raises
        ------
        TermsError
            If they are malformed, commit one of this owner's slots to another's secret, or let
            somebody read an export whom the policy does not name.
        QuoteRefusedError
            If the program is not legal, or unfit for several owners.

        """
        agreement = Agreement(terms)
        mine = {slot.slot for slot in agreement.program.slots if slot.owner == self.name}
        for slot in mine | set(self._secrets):
            secret = self._secrets.get(slot)
            if slot not in mine or secret is None:
                raise TermsError(f"Slot {slot} is {self.name}'s in the terms or here, not in both")
            if secret.commitment.commitment != agreement.commitments[slot]:
                raise TermsError(
                    f"The terms commit slot {slot} of {self.name} to a secret that is not its own"
                )
        check_program(agreement.program)
        self._check_readers(agreement)
        self._agreement = agreement
        self._verdict = None

    def challenge(self) -> bytes:
        """Return a fresh nonce for a quote; earlier ones are void."""
        return self._challenges.issue()

    def appraise(self, reply: QuoteReply, *, stage: Stage | None = None) -> Verdict:
        """Appraise a quote over the last challenge, against the terms.

        The verdict lists who can read the exports.

        Raises
        ------
        SessionError
            If no terms were agreed to, or no fresh challenge is open.

        """
        agreement = self._agreed()
        verdict = verify_quote(
            reply.quote,
            nonce=self._challenges.redeem(),
            chain=reply.certificates,
            roots=self._roots,
            policy=self.policy,
            measurements=agreement.measurements,
            stage=stage or self.stage,
        )
        readers = export_readers(agreement.program, agreement.commitments)
        self._verdict = verdict.showing(readers)
        return self._verdict

    def release(self, reply: QuoteReply) -> tuple[KeyRelease, ...]:
        """Appraise a quote and, only if it is accepted, return the messages that open the slots.

        Raises
        ------
        QuoteRefusedError
            If the quote was refused; nothing was released.
        SessionError
            If no terms were agreed to, or no fresh challenge is open.

        """
        cnf = self.appraise(reply).require().cnf
        self._bind(cnf)
        locked = self._agreed().measurements.locked
        return tuple(self._secrets[slot].release(cnf, locked) for slot in sorted(self._secrets))

    def _bind(self, cnf: bytes) -> None:
        """Note that secrets go to the session of ``cnf``; a subclass may refuse."""

    def _agreed(self) -> Agreement:
        if self._agreement is None:
            raise SessionError(f"Owner {self.name} agreed to no terms yet")
        return self._agreement

    def _check_readers(self, agreement: Agreement) -> None:
        if self.policy.readers is None:
            return
        own = {commitment.commitment for commitment in self.commitments}
        for reader in export_readers(agreement.program, agreement.commitments):
            if reader.commitment not in own | self.policy.readers:
                raise TermsError(
                    f"Export {reader.tensor} would be readable by {reader.owner} "
                    f"({reader.commitment.hex()[:16]}…), whom the policy does not name"
                )
