"""The honest owner: what it publishes, what it checks in a quote, and what it sends after that.

Monitor specification §4 and §5, TEC specification §4. An owner acts in one or more protocol
instances (`Instance`), all with the same secrets, which is what published commitments lead to.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum
from functools import cache, cached_property

from ginseng.isa.formats import Pcr
from ginseng.isa.table import Domain
from protocol_model.protocol import (
    ModelError,
    Row,
    Secret,
    Setup,
    Switch,
    attestation_key,
    loadkey_info,
    nonce,
    references,
    run_version,
    session_key,
)
from protocol_model.terms import Op, Term, aead, const, hpke, name, pack

__all__ = ["Instance", "Owner", "Phase", "RejectedError"]


class RejectedError(ModelError):
    """An owner did not accept a quote; the message names the claim."""


class Phase(IntEnum):
    """How far a protocol instance came."""

    #: Commitments and sealed weights are public, nothing was asked yet.
    IDLE = 0
    #: The nonce was sent.
    ASKED = 1
    #: A quote was accepted and the secrets were released to its cnf.
    RELEASED = 2
    #: The inputs of all runs were sent too.
    SENT = 3


@dataclass(frozen=True, slots=True)
class Instance:
    """State of one protocol instance of an owner."""

    owner: str
    index: int
    phase: Phase = Phase.IDLE
    cnf: Term | None = None
    #: cnf keys of the sessions that were over when the nonce was sent. No owner sees this; it is
    #: what the freshness property is about.
    dead: frozenset[Term] = frozenset()

    @property
    def nonce(self) -> Term:
        """The challenge. The second quote of an instance answers the same one: over-approximates
        an owner who draws a second nonce, since the host may then use either quote for both."""
        return _challenge(self.owner, self.index)

    def __str__(self) -> str:
        return f"{self.owner} #{self.index}"


@cache
def _challenge(owner: str, index: int) -> Term:
    return name(f"nonce of {owner} #{index}")


@dataclass(frozen=True)
class Owner:
    """One owner and all it knows before the session.

    Attributes
    ----------
    secrets : mapping of int to Secret
        Its slots.
    agreement : Setup
        Rows, published commitments, programs, entry and limit that it agreed to.
    sealed : mapping of int to Term
        Published texts of the sealed measured rows, by handle; whoever owns them.
    devices : tuple of str
        Devices whose attestation key its policy accepts.
    on : frozenset of Switch

    """

    secrets: Mapping[int, Secret] = field(repr=False)
    agreement: Setup
    sealed: Mapping[int, Term]
    devices: tuple[str, ...]
    on: frozenset[Switch]

    def ask(self, instance: Instance, dead: frozenset[Term]) -> Instance:
        """Send the nonce."""
        return replace(instance, phase=Phase.ASKED, dead=dead)

    def release(
        self, instance: Instance, quote: Term, claimed: Term, used: frozenset[Term]
    ) -> tuple[Instance, tuple[Term, ...]]:
        """Appraise a quote and release the secrets to its cnf; maybe the inputs as well.

        Parameters
        ----------
        instance : Instance
            In phase ASKED.
        quote, claimed : Term
            What the host delivers; ``claimed`` is a public key beside the quote, which counts only
            if the quote does not name one.
        used : frozenset of Term
            cnf keys to which other instances of this owner released.

        Raises
        ------
        RejectedError
            Naming the claim that failed.

        """
        cnf, pcrs = self._appraise(instance, quote, claimed)
        if self._rows(Domain.IMPORT) and Switch.CNF_REMEMBERED in self.on and cnf in used:
            raise RejectedError("cnf was used before")
        expected = {pcr: values[0] for pcr, values in self._references.items()}
        if Switch.SLOTS_COMPARED not in self.on:
            expected[Pcr.SLOTS] = pcrs[Pcr.SLOTS]
        info = loadkey_info(cnf, [expected[pcr] for pcr in Pcr], self.on)
        messages = tuple(
            hpke(cnf, info, pack(const(slot), mine.secret, mine.blinding))
            for slot, mine in self.secrets.items()
        )
        instance = replace(instance, phase=Phase.RELEASED, cnf=cnf)
        if self.waits:
            return instance, messages
        sent, inputs = self._send(instance)
        return sent, messages + inputs

    def send(
        self, instance: Instance, quote: Term, claimed: Term
    ) -> tuple[Instance, tuple[Term, ...]]:
        """Appraise a quote whose PCR4 must be final, and send the inputs of all runs.

        All at once is the best case for the host: an owner who sends later, or less, gives it less.
        """
        cnf, pcrs = self._appraise(instance, quote, claimed)
        if Switch.SAME_SESSION in self.on and cnf is not instance.cnf:
            raise RejectedError("cnf is not the released one")
        if pcrs[Pcr.WEIGHTS] is not self._references[Pcr.WEIGHTS][-1]:
            raise RejectedError("PCR4 is not final")
        return self._send(instance)

    def inputs(self, instance: Instance) -> tuple[Term, ...]:
        """Return the plaintexts of the inputs of all runs; none without an input row."""
        if not self._rows(Domain.IMPORT):
            return ()
        limit = self.agreement.max_runs
        return tuple(name(f"input {run} of {instance}") for run in range(1, limit + 1))

    def expects(self, instance: Instance) -> Iterator[tuple[Term, Term, Term]]:
        """Yield, run by run, the key and nonce that open the result, and the input it is of."""
        for row in self._rows(Domain.EXPORT):
            for run, plain in enumerate(self.inputs(instance), start=1):
                yield self._key(instance, row), self._nonce(row, run), plain

    @cached_property
    def _signers(self) -> frozenset[Term]:
        return frozenset(map(attestation_key, self.devices))

    @cached_property
    def _references(self) -> dict[Pcr, tuple[Term, ...]]:
        return references(self.agreement, self.sealed, self.on)

    @cached_property
    def waits(self) -> bool:
        """Whether inputs are sent only after a second quote, with the final PCR4."""
        wanted = bool(self.sealed) and Switch.FINAL_PCR4 in self.on
        return wanted and bool(self._rows(Domain.IMPORT))

    def _rows(self, domain: Domain) -> list[Row]:
        return [r for r in self.agreement.rows if r.domain is domain and r.slot in self.secrets]

    def _key(self, instance: Instance, row: Row) -> Term:
        assert instance.cnf is not None
        return session_key(self.secrets[row.slot].secret, instance.cnf, row.slot, self.on)

    def _nonce(self, row: Row, run: int) -> Term:
        return nonce(row.domain, row.handle, run_version(run, self.on))

    def _send(self, instance: Instance) -> tuple[Instance, tuple[Term, ...]]:
        texts = tuple(
            aead(self._key(instance, row), self._nonce(row, run), plain)
            for row in self._rows(Domain.IMPORT)
            for run, plain in enumerate(self.inputs(instance), start=1)
        )
        return replace(instance, phase=Phase.SENT), texts

    def _appraise(
        self, instance: Instance, quote: Term, claimed: Term
    ) -> tuple[Term, tuple[Term, ...]]:
        """Return cnf and registers of an acceptable quote."""
        if quote.op is not Op.SIGNED or quote.terms[0] not in self._signers:
            raise RejectedError("signature")
        answered, cnf, _runs, *pcrs = quote.terms[1].terms
        if Switch.NONCE in self.on and answered is not instance.nonce:
            raise RejectedError("eat_nonce")
        if Switch.CNF not in self.on:
            cnf = claimed
        if Switch.PCRS_COMPARED in self.on:
            for pcr, values in self._references.items():
                if pcr is Pcr.SLOTS and Switch.SLOTS_COMPARED not in self.on:
                    continue
                if pcrs[pcr] not in values:
                    raise RejectedError(f"PCR{int(pcr)}")
        return cnf, tuple(pcrs)
