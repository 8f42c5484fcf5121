"""Who takes part, what the owners agree on, and what the host may set up instead.

The model owner has slot 1 (static, its weights are sealed and measured), the data owner slots 2
(inputs) and 3 (results). Handles are those of `_rows`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import reduce
from itertools import chain as joined
from itertools import combinations

from ginseng.isa.table import Domain, Permission, SlotUse, Source
from protocol_model.protocol import DUMP, Row, Secret, Setup, Slot, nonce
from protocol_model.terms import Term, aead, const, name

__all__ = [
    "AGREED_PROGRAM",
    "DATA_OWNER",
    "HOST_PRIVATE",
    "HOST_SECRET",
    "HOST_VALUE",
    "MODEL_OWNER",
    "SCENARIOS",
    "Scenario",
]

MODEL_OWNER, DATA_OWNER = "model owner", "data owner"
AGREED_PROGRAM = const("agreed program")
#: What the host makes itself: a secret for slots, a key pair, a tensor.
HOST_SECRET = Secret(name("host's secret"), name("host's blinding"))
HOST_PRIVATE = name("host's private key")
HOST_VALUE = name("host's tensor")

PROGRAM, WEIGHTS, SCRATCH, INPUT, RESULT, EXTRA = range(6)

_SECRETS: Mapping[str, Mapping[int, Secret]] = {
    MODEL_OWNER: {1: Secret(name("secret 1"), name("blinding 1"))},
    DATA_OWNER: {
        2: Secret(name("secret 2"), name("blinding 2")),
        3: Secret(name("secret 3"), name("blinding 3")),
    },
}

Deviation = Callable[[Setup], Setup]


@dataclass(frozen=True)
class Scenario:
    """One bounded world.

    Attributes
    ----------
    title : str
        What it is about, one line.
    agreement : Setup
        What all owners agreed on.
    instances : mapping of str to int
        Protocol instances of each honest owner.
    colluding : frozenset of str
        Owners who give the host all they have.
    sessions : tuple of str
        The device of each session that the host can open, in this order. A device has one session
        at a time: opening another ends it.
    setups : tuple of (str, Setup)
        What the host may configure, with a name for the trace.
    late : bool
        Owners send their nonces at any time, and the host can END without opening again. Otherwise
        all nonces are sent at the outset, which gives the host most.
    leaks : bool
        The ephemeral key of a session that was over before any owner asked becomes known.

    """

    title: str
    agreement: Setup
    instances: Mapping[str, int]
    colluding: frozenset[str]
    sessions: tuple[str, ...]
    setups: tuple[tuple[str, Setup], ...]
    late: bool = False
    leaks: bool = False

    @property
    def weights(self) -> Term:
        """The agreed weights, a secret of the model owner where they are sealed."""
        return name("weights")

    @property
    def sealed(self) -> dict[int, Term]:
        """Published text of the sealed weights, by handle."""
        secret = _SECRETS[MODEL_OWNER][1].secret
        return {
            row.handle: aead(secret, nonce(row.domain, row.handle, row.version), self.weights)
            for row in self.agreement.rows
            if row.imported and row.source is Source.SEALED
        }

    @property
    def owners(self) -> dict[str, Mapping[int, Secret]]:
        """Secrets of all who have a slot in the agreement, colluding or not, by owner."""
        used = {slot.slot for slot in self.agreement.slots}
        return {label: mine for label, mine in _SECRETS.items() if used & set(mine)}


def _agreement(*, sealed: bool = True, max_runs: int = 1, entries: int = 1) -> Setup:
    r, w, x = Permission.R, Permission.W, Permission.X
    weights = (
        Row(WEIGHTS, Domain.WEIGHTS, r, slot=1, measured=True, source=Source.SEALED, version=1)
        if sealed
        else Row(WEIGHTS, Domain.WEIGHTS, r, measured=True, source=Source.PLAIN)
    )
    rows = [
        Row(PROGRAM, Domain.PROGRAM, r | x, measured=True, source=Source.PLAIN),
        weights,
        Row(SCRATCH, Domain.SCRATCH, r | w),
        Row(INPUT, Domain.IMPORT, r, slot=2),
        Row(RESULT, Domain.EXPORT, w, slot=3),
    ]
    contents = [(PROGRAM, AGREED_PROGRAM)]
    if not sealed:
        contents.append((WEIGHTS, name("weights")))
    if entries == 2:
        rows.append(Row(EXTRA, Domain.PROGRAM, r | x, measured=True, source=Source.PLAIN))
        contents.append((EXTRA, DUMP))
    slots = [Slot(1, SlotUse.STATIC, _SECRETS[MODEL_OWNER][1].commitment)] if sealed else []
    slots += [Slot(n, SlotUse.SESSION, _SECRETS[DATA_OWNER][n].commitment) for n in (2, 3)]
    return Setup(tuple(rows), tuple(slots), tuple(contents), PROGRAM, max_runs)


def _own_commitment(number: int) -> Deviation:
    def deviate(setup: Setup) -> Setup:
        slots = tuple(
            replace(slot, commitment=HOST_SECRET.commitment) if slot.slot == number else slot
            for slot in setup.slots
        )
        return replace(setup, slots=slots)

    return deviate


def _own_program(setup: Setup) -> Setup:
    return replace(setup, contents=((PROGRAM, DUMP), *setup.contents[1:]))


def _another_export(setup: Setup) -> Setup:
    row = Row(EXTRA + 1, Domain.EXPORT, Permission.W, slot=4)
    slot = Slot(4, SlotUse.SESSION, HOST_SECRET.commitment)
    return replace(setup, rows=(*setup.rows, row), slots=(*setup.slots, slot))


def _own_weights(setup: Setup) -> Setup:
    row = Row(WEIGHTS, Domain.WEIGHTS, Permission.R, measured=True, source=Source.PLAIN)
    rows = tuple(row if r.handle == WEIGHTS else r for r in setup.rows)
    contents = {**dict(setup.contents), WEIGHTS: HOST_VALUE}
    return replace(setup, rows=rows, contents=tuple(sorted(contents.items())))


def _inputs_exported(setup: Setup) -> Setup:
    """Swap the slots of input and result rows."""
    swap = {INPUT: 3, RESULT: 2}
    return replace(
        setup, rows=tuple(replace(r, slot=swap.get(r.handle, r.slot)) for r in setup.rows)
    )


_DEVIATIONS: Mapping[str, Deviation] = {
    "the host's program": _own_program,
    "another export to the host's slot 4": _another_export,
    "the host's weights": _own_weights,
    "slots of input and result swapped": _inputs_exported,
    "the host's commitment in slot 1": _own_commitment(1),
    "the host's commitment in slot 2": _own_commitment(2),
    "the host's commitment in slot 3": _own_commitment(3),
    "no SLOT 3": lambda s: replace(s, slots=tuple(n for n in s.slots if n.slot != 3)),
    "one run more": lambda s: replace(s, max_runs=s.max_runs + 1),
    "another entry": lambda s: replace(s, entry=EXTRA),
}


def _setups(agreement: Setup, at_once: int) -> tuple[tuple[str, Setup], ...]:
    """Return the agreement and all that differ from it by up to ``at_once`` deviations."""
    chosen = joined.from_iterable(combinations(_DEVIATIONS, n) for n in range(at_once + 1))
    setups: dict[Setup, str] = {}
    for deviations in chosen:
        setup = reduce(lambda s, d: _DEVIATIONS[d](s), deviations, agreement)
        setups.setdefault(setup, " + ".join(deviations) or "as agreed")
    return tuple((label, setup) for setup, label in setups.items())


def _scenario(
    title: str,
    *,
    sessions: str,
    model_owner: int | None = 1,
    data_owner: int | None = 1,
    max_runs: int = 1,
    at_once: int = 1,
    entries: int = 1,
    sealed: bool = True,
    late: bool = False,
    leaks: bool = False,
) -> Scenario:
    """Make a scenario: an owner with None instances colludes, ``sessions`` has a letter each."""
    instances = {MODEL_OWNER: model_owner, DATA_OWNER: data_owner}
    if not sealed:
        del instances[MODEL_OWNER]
    agreement = _agreement(sealed=sealed, max_runs=max_runs, entries=entries)
    return Scenario(
        title,
        agreement,
        {label: count for label, count in instances.items() if count is not None},
        frozenset(label for label, count in instances.items() if count is None),
        tuple(sessions),
        _setups(agreement, at_once),
        late,
        leaks,
    )


#: Every world that is searched.
SCENARIOS: Mapping[str, Scenario] = {
    "one deviation": _scenario(
        "both owners, one session, at most one deviation",
        sessions="A", max_runs=2,
    ),
    "one session": _scenario(
        "both owners, one session, any combination of deviations",
        sessions="A", max_runs=2, at_once=len(_DEVIATIONS),
    ),
    "two devices": _scenario(
        "both owners, a session on each of two devices, up to two deviations in each",
        sessions="AB", max_runs=2, at_once=2,
    ),
    "reopened": _scenario(
        "both owners, one device: the host kills the session and opens another",
        sessions="AA", max_runs=2,
    ),
    "three sessions": _scenario(
        "both owners, two sessions on one device and one on another, all as agreed",
        sessions="AAB", at_once=0,
    ),
    "client returns": _scenario(
        "a data owner comes twice with the same secrets; the weights are public",
        sessions="AA", data_owner=2, sealed=False,
    ),
    "both return": _scenario(
        "both owners come twice with the same secrets, one device, all as agreed",
        sessions="AA", model_owner=2, data_owner=2, at_once=0,
    ),
    "both return, two devices": _scenario(
        "both owners come twice with the same secrets, two devices, all as agreed",
        sessions="AB", model_owner=2, data_owner=2, at_once=0,
    ),
    "late owners": _scenario(
        "owners ask at any time; the key of a session that was over by then leaks",
        sessions="AA", at_once=0, late=True, leaks=True,
    ),
    "client colludes": _scenario(
        "the data owner works with the host against the model owner",
        sessions="AB", data_owner=None,
    ),
    "model owner colludes": _scenario(
        "the model owner works with the host against the data owner",
        sessions="AB", model_owner=None,
    ),
    "two programs": _scenario(
        "the agreed table has two entries, one of which exports all; the data owner colludes",
        sessions="A", data_owner=None, entries=2, at_once=2,
    ),
}  # fmt: skip
