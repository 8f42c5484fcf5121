"""The monitor as a state machine, command by command (monitor specification §2, §3 and §5)."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ginseng.isa.formats import PCR_COUNT, Pcr
from ginseng.isa.mailbox import EventType, Refusal, State
from ginseng.isa.table import Domain, Permission, SlotUse, Source
from protocol_model.protocol import (
    BUILD,
    DUMP,
    ZERO,
    ModelError,
    Row,
    Secret,
    Setup,
    Slot,
    Switch,
    attestation_key,
    event,
    loadkey_info,
    lock_events,
    nonce,
    run_version,
    session_key,
)
from protocol_model.terms import Op, Term, aead, apply, chain, const, name, pack, public, signed

__all__ = ["Device", "FatalError", "RefusedError", "Reply", "Session"]

#: What an unloaded slot holds, in a device that lets it be used.
ZERO_KEY = const("zero key")


class RefusedError(ModelError):
    """The device refused a command and changed nothing."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.name)
        self.refusal = refusal


class FatalError(ModelError):
    """A tag did not verify: the session is dead, as if the host had ended it."""

    def __init__(self) -> None:
        super().__init__("FATAL")


@dataclass(frozen=True, slots=True)
class Session:
    """State of a device between BEGIN and END."""

    device: str
    serial: int
    private: Term
    kmem: Term
    state: State = State.CONFIG
    rows: tuple[Row, ...] = ()
    slots: tuple[Slot, ...] = ()
    #: Done imports: (handle, epoch under K_mem, plaintext).
    imports: tuple[tuple[int, int, Term], ...] = ()
    pcrs: tuple[Term, ...] = (ZERO,) * PCR_COUNT
    entry: int = -1
    max_runs: int = 0
    info: Term = ZERO
    #: Loaded slots: (slot, secret).
    keys: tuple[tuple[int, Term], ...] = ()
    epoch: int = 0
    runs: int = 0

    @property
    def cnf(self) -> Term:
        """The session's public key."""
        return public(self.private)

    @property
    def setup(self) -> Setup:
        """What CONFIG and LOCK fixed."""
        rows = {row.handle: row for row in self.rows}
        plain = tuple((h, p) for h, _, p in self.imports if rows[h].source is Source.PLAIN)
        return Setup(self.rows, self.slots, plain, self.entry, self.max_runs)


Reply = tuple[Session, tuple[Term, ...]]


class Device:
    """The monitor. Takes a session and a command, gives the session after it and what leaves.

    Raises `RefusedError` or `FatalError`; then nothing changed, or the session is dead.
    """

    def __init__(self, on: frozenset[Switch]) -> None:
        self.on = on

    def begin(self, device: str, serial: int) -> Session:
        """BEGIN: fresh ephemeral key and K_mem, registers reset."""
        mine = f"session {serial}"
        private = mine if Switch.FRESH_CNF in self.on else device
        kmem = mine if Switch.FRESH_KMEM in self.on else device
        pcrs = BUILD + (ZERO,) * (PCR_COUNT - len(BUILD))
        return Session(device, serial, name(f"cnf of {private}"), name(f"K_mem of {kmem}"),
                       pcrs=pcrs)  # fmt: skip

    def row(self, session: Session, row: Row) -> Session:
        """ROW: one row of the table."""
        _in_state(session, State.CONFIG)
        if any(row.handle == other.handle for other in session.rows):
            raise RefusedError(Refusal.ROW_DUPLICATE)
        executable = [r for r in (*session.rows, row) if Permission.X in r.permissions]
        if Switch.ONE_ENTRY in self.on and len(executable) > 1:
            raise RefusedError(Refusal.ROW_ENTRY)
        rows = sorted((*session.rows, row), key=lambda r: r.handle)
        return replace(session, rows=tuple(rows))

    def slot(self, session: Session, slot: Slot) -> Session:
        """SLOT: the commitment of whoever will load it."""
        _in_state(session, State.CONFIG)
        if slot.slot == 0 or slot.use not in (SlotUse.STATIC, SlotUse.SESSION):
            raise RefusedError(Refusal.SLOT_USE)
        if any(slot.slot == other.slot for other in session.slots):
            raise RefusedError(Refusal.SLOT_TAKEN)
        slots = sorted((*session.slots, slot), key=lambda s: s.slot)
        return replace(session, slots=tuple(slots))

    def import_(self, session: Session, handle: int, source: Term) -> Reply:
        """IMPORT: measure, and seal again under K_mem. ``source`` is what lies in DRAM."""
        row = next((r for r in session.rows if r.handle == handle and r.imported), None)
        if row is None:
            raise RefusedError(Refusal.IMPORT_ROW)
        plain = row.source is Source.PLAIN
        _in_state(session, State.CONFIG if plain else State.LOCKED)
        kinds = {r.handle: r.source for r in session.rows}
        if any(h >= handle and kinds[h] is row.source for h, _, _ in session.imports):
            raise RefusedError(Refusal.IMPORT_ORDER)
        content = source
        if not plain:
            if row.slot not in dict(session.keys):
                raise RefusedError(Refusal.IMPORT_KEY)
            content = _open(source, *self.import_place(session, row))
        register = Pcr.PROGRAM if row.domain is Domain.PROGRAM else Pcr.WEIGHTS
        kind = EventType.PLAIN_IMPORT if plain else EventType.SEALED_IMPORT
        epoch = session.epoch + 1
        after = replace(
            session,
            imports=(*session.imports, (handle, epoch, content)),
            pcrs=_extended(session.pcrs, register, event(kind, handle, source)),
            epoch=epoch,
        )
        return after, (aead(session.kmem, nonce(row.domain, handle, epoch), content),)

    def import_place(self, session: Session, row: Row) -> tuple[Term, Term]:
        """Return key and nonce under which IMPORT opens a sealed row."""
        return dict(session.keys)[row.slot], nonce(row.domain, row.handle, row.version)

    def lock(self, session: Session, entry: int, max_runs: int) -> Session:
        """LOCK: close rows, slots and plain imports; latch the info of LOADKEY."""
        _in_state(session, State.CONFIG)
        done = {handle for handle, _, _ in session.imports}
        executable = {r.handle for r in session.rows if Permission.X in r.permissions}
        if entry not in executable & done:
            raise RefusedError(Refusal.LOCK_ENTRY)
        if max_runs < 1:
            raise RefusedError(Refusal.LOCK_RUNS)
        if any(
            r.handle not in done for r in session.rows if r.imported and r.source is Source.PLAIN
        ):
            raise RefusedError(Refusal.LOCK_IMPORT)
        after = replace(session, state=State.LOCKED, entry=entry, max_runs=max_runs)
        pcrs = list(after.pcrs)
        pcrs[Pcr.TABLE], pcrs[Pcr.SLOTS] = lock_events(after.setup, self.on)
        info = loadkey_info(after.cnf, tuple(pcrs), self.on)
        return replace(after, pcrs=tuple(pcrs), info=info)

    def quote(self, session: Session, challenge: Term) -> Term:
        """QUOTE: sign challenge, cnf, registers and run counter."""
        _in_state(session, State.LOCKED)
        answered = challenge if Switch.NONCE in self.on else const("no nonce")
        cnf = session.cnf if Switch.CNF in self.on else const("no cnf")
        body = pack(answered, cnf, const(session.runs), *session.pcrs)
        return signed(attestation_key(session.device), body)

    def loadkey(self, session: Session, message: Term) -> Session:
        """LOADKEY: open the HPKE message and fill its slot."""
        _in_state(session, State.LOCKED)
        recipient, info, plaintext = message.terms
        if recipient is not session.cnf or info is not session.info:
            raise RefusedError(Refusal.KEY_REFUSED)
        number, secret, blinding = plaintext.terms
        slot = next((s for s in session.slots if const(s.slot) is number), None)
        if slot is None or slot.slot in dict(session.keys):
            raise RefusedError(Refusal.KEY_SLOT)
        if Switch.COMMITMENT in self.on and Secret(secret, blinding).commitment is not (
            slot.commitment
        ):
            raise RefusedError(Refusal.KEY_REFUSED)
        return replace(session, keys=tuple(sorted((*session.keys, (slot.slot, secret)))))

    def can_run(self, session: Session) -> None:
        """Raise `RefusedError` unless RUN would start."""
        _in_state(session, State.LOCKED)
        if Switch.SLOTS_LOADED in self.on and {r.slot for r in session.rows if r.slot} - set(
            dict(session.keys)
        ):
            raise RefusedError(Refusal.RUN_KEY)
        done = {handle for handle, _, _ in session.imports}
        if any(r.imported and r.handle not in done for r in session.rows):
            raise RefusedError(Refusal.RUN_IMPORT)
        if Switch.MAX_RUNS in self.on and session.runs >= session.max_runs:
            raise RefusedError(Refusal.RUN_LIMIT)

    def reads(self, session: Session) -> dict[int, tuple[Term, Term]]:
        """Return key and nonce under which the next RUN reads each row that it reads."""
        epochs = {handle: epoch for handle, epoch, _ in session.imports}
        out = {}
        for row in session.rows:
            if row.domain is Domain.PROGRAM and row.handle != session.entry:
                continue
            if row.handle in epochs:
                version, key = epochs[row.handle], session.kmem
            elif row.domain is Domain.IMPORT:
                version, key = run_version(session.runs + 1, self.on), self.slot_key(session, row)
            elif row.domain is Domain.WEIGHTS:
                version, key = row.version, self.slot_key(session, row)
            else:
                continue
            out[row.handle] = (key, nonce(row.domain, row.handle, version))
        return out

    def run(self, session: Session, dram: Mapping[int, Term]) -> Reply:
        """RUN: the program at LOCK's entry over what the host left in DRAM, once."""
        self.can_run(session)
        values = {h: _open(dram[h], *where) for h, where in self.reads(session).items()}
        program = values.pop(session.entry)
        arguments = [values[handle] for handle in sorted(values)]
        result = pack(*arguments) if program is DUMP else apply(program, *arguments)
        scratch = apply(const("intermediate"), program, *arguments)
        runs = session.runs + 1
        epoch = session.epoch + (1 if Switch.EPOCH in self.on else 0)
        written = [
            aead(session.kmem, nonce(row.domain, row.handle, epoch), scratch)
            if row.domain is Domain.SCRATCH
            else aead(
                self.slot_key(session, row),
                nonce(row.domain, row.handle, run_version(runs, self.on)),
                result,
            )
            for row in session.rows
            if Permission.W in row.permissions
        ]
        pcrs = _extended(session.pcrs, Pcr.RUNS, event(EventType.RUN, 0, const(runs)))
        return replace(session, runs=runs, epoch=epoch, pcrs=pcrs), tuple(written)

    def end(self, session: Session) -> Session:
        """END, or a reset by the host: nothing of the session can be used again."""
        return replace(session, state=State.IDLE)

    def slot_key(self, session: Session, row: Row) -> Term:
        """Return the key of the slot that ``row`` names."""
        secret = dict(session.keys).get(row.slot)
        if secret is None:
            return ZERO_KEY
        if row.domain is Domain.WEIGHTS:
            return secret
        return session_key(secret, session.cnf, row.slot, self.on)


def _in_state(session: Session, state: State) -> None:
    if session.state is not state:
        raise RefusedError(Refusal.WRONG_STATE)


def _extended(pcrs: tuple[Term, ...], register: Pcr, event: Term) -> tuple[Term, ...]:
    return (*pcrs[:register], chain(pcrs[register], event), *pcrs[register + 1 :])


def _open(sealed: Term, key: Term, at: Term) -> Term:
    if sealed.op is not Op.AEAD or sealed.terms[0] is not key or sealed.terms[1] is not at:
        raise FatalError
    return sealed.terms[2]
