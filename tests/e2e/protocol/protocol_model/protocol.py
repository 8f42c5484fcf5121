"""What device and owners have in common: bindings, setups, measurements and key derivation.

Every binding that the protocol relies on is a `Switch`, so that the search can show what it is for.
Enumerations, labels and the order of registers are those of `ginseng.isa`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from ginseng.isa.formats import LOADKEY_INFO, LOADKEY_PCRS, Pcr, slot_info
from ginseng.isa.mailbox import EventType
from ginseng.isa.table import KEY_SLOTS, Domain, Permission, SlotUse, Source
from protocol_model.terms import Term, chain, const, hashed, kdf, name, pack

__all__ = [
    "BUILD",
    "DUMP",
    "ZERO",
    "ModelError",
    "Row",
    "Secret",
    "Setup",
    "Slot",
    "Switch",
    "attestation_key",
    "event",
    "loadkey_info",
    "lock_events",
    "nonce",
    "references",
    "run_version",
    "session_key",
]


#: Registers start here.
ZERO = const("zero")
#: The host's own program: it exports all it reads.
DUMP = const("dumping program")


class ModelError(Exception):
    """Base of what the honest parties raise when they refuse a message."""


class Switch(StrEnum):
    """A binding of the protocol. The model has them all on unless a test turns one off."""

    COMMITMENT = "LOADKEY compares secret and blinding with the slot's commitment"
    NONCE = "the quote answers the owner's nonce"
    SALT = "session keys are salted with SHA-256(cnf)"
    INFO = "LOADKEY's HPKE info binds cnf and the measurements at LOCK"
    CNF = "the quote names the session's public key"
    SLOTS_COMPARED = "owners compute PCR7 from the published commitments"
    RUN_VERSION = "the run number is the version of inputs and exports"
    SLOTS_LOADED = "RUN is refused until every slot named by a row is loaded"
    ENTRY_MEASURED = "the LOCK event in PCR2 names the entry"
    MAX_RUNS = "RUN is refused beyond max_runs"
    FINAL_PCR4 = "the client waits for the final PCR4 before it sends inputs"
    # Not asked for by name, but relied on.
    PCRS_COMPARED = "owners compare PCR0 to PCR7 of the quote with their references"
    ONE_ENTRY = "a second X row is refused"
    FRESH_CNF = "every BEGIN draws a new ephemeral key"
    FRESH_KMEM = "every BEGIN draws a new K_mem"
    EPOCH = "every RUN seals scratch under the next epoch"
    SAME_SESSION = "the quote with the final PCR4 has the cnf to which the keys were released"
    CNF_REMEMBERED = "an owner of a session key refuses a cnf that it used before"


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the tensor table. Placement is the host's business and no part of the model."""

    handle: int
    domain: Domain
    permissions: Permission
    slot: int = 0
    measured: bool = False
    source: Source = Source.SEALED
    version: int = 0

    @property
    def imported(self) -> bool:
        """Whether the row is filled by IMPORT."""
        return self.measured and self.domain in (Domain.WEIGHTS, Domain.PROGRAM)


@dataclass(frozen=True, slots=True)
class Slot:
    """One SLOT command."""

    slot: int
    use: SlotUse
    commitment: Term


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret and its blinding. What a slot is loaded with."""

    secret: Term
    blinding: Term

    @property
    def commitment(self) -> Term:
        """SHA-256(secret ‖ blinding)."""
        return hashed(self.secret, self.blinding)


@dataclass(frozen=True, slots=True)
class Setup:
    """All that CONFIG and LOCK fix: what owners agree on, or what the host sets up instead."""

    rows: tuple[Row, ...]
    slots: tuple[Slot, ...]
    #: Plain imports: (handle, content), ascending.
    contents: tuple[tuple[int, Term], ...]
    entry: int
    max_runs: int


def attestation_key(device: str) -> Term:
    """Return the private attestation key of ``device``."""
    return name(f"attestation key of {device}")


def nonce(domain: Domain, handle: int, version: int) -> Term:
    """Return the nonce of a tensor; its chunks are one."""
    return const(f"{domain.name}.{handle}.v{version}")


def event(kind: EventType, handle: int, content: Term) -> Term:
    """Return what a register is extended with, before it is hashed."""
    return pack(const(kind), const(handle), content)


def lock_events(setup: Setup, on: frozenset[Switch]) -> tuple[Term, Term]:
    """Return PCR2 and PCR7 as LOCK leaves them."""
    entry = setup.entry if Switch.ENTRY_MEASURED in on else 0
    table = [event(EventType.ROW, row.handle, const(row)) for row in setup.rows]
    table.append(event(EventType.LOCK, entry, const(setup.max_runs)))
    given = {slot.slot: pack(const(slot.use), slot.commitment) for slot in setup.slots}
    slots = [event(EventType.SLOT, n, given.get(n, ZERO)) for n in range(1, KEY_SLOTS)]
    return chain(ZERO, *table), chain(ZERO, *slots)


def loadkey_info(cnf: Term, pcrs: Sequence[Term], on: frozenset[Switch]) -> Term:
    """Return HPKE's info; ``pcrs`` are the registers as they stand, or should stand, at LOCK."""
    label = const(LOADKEY_INFO)
    if Switch.INFO not in on:
        return label
    return pack(label, hashed(cnf, *(pcrs[n] for n in LOADKEY_PCRS)))


def session_key(secret: Term, cnf: Term, slot: int, on: frozenset[Switch]) -> Term:
    """Return the key of a session slot."""
    salt = hashed(cnf) if Switch.SALT in on else const("no salt")
    return kdf(secret, salt, const(slot_info(slot)))


def run_version(run: int, on: frozenset[Switch]) -> int:
    """Return the version of inputs and exports in run number ``run``, from 1."""
    return run if Switch.RUN_VERSION in on else 1


#: PCR0 and PCR1 of the one build that everybody trusts.
BUILD = (
    chain(ZERO, event(EventType.CONFIGURATION, 0, const("configuration digest"))),
    chain(ZERO, event(EventType.MONITOR, 0, const("monitor ROM"))),
)


def references(
    setup: Setup, sealed: Mapping[int, Term], on: frozenset[Switch]
) -> dict[Pcr, tuple[Term, ...]]:
    """Compute from the artefacts what a genuine device may report before its first run.

    PCR4 has two values: at LOCK, and once every text of ``sealed`` was imported (the last).
    """
    programs, weights = ZERO, ZERO
    rows = {row.handle: row for row in setup.rows}
    for handle, content in setup.contents:
        measured = event(EventType.PLAIN_IMPORT, handle, content)
        if rows[handle].domain is Domain.PROGRAM:
            programs = chain(programs, measured)
        else:
            weights = chain(weights, measured)
    final = chain(weights, *(event(EventType.SEALED_IMPORT, h, sealed[h]) for h in sorted(sealed)))
    table, slots = lock_events(setup, on)
    return {
        Pcr.CONFIGURATION: (BUILD[0],),
        Pcr.MONITOR: (BUILD[1],),
        Pcr.TABLE: (table,),
        Pcr.PROGRAM: (programs,),
        Pcr.WEIGHTS: (weights, final) if sealed else (weights,),
        Pcr.RESERVED: (ZERO,),
        Pcr.RUNS: (ZERO,),
        Pcr.SLOTS: (slots,),
    }
