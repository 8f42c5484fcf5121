"""The operator's side: owns the device, queues sessions, moves ciphertext, writes the audit log.

Untrusted for secrecy: it never has a key or a plaintext, and everything it could do wrong is
either stopped by the device or seen by an owner. Monitor specification §6.
"""

import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ginseng.driver import (
    Board,
    BoardError,
    CommandRefusedError,
    DeviceFatalError,
    DeviceTimeoutError,
    Monitor,
)
from ginseng.isa.mailbox import State
from ginseng.program import Program, ProgramError, loads
from ginseng.secureos.audit import AuditLog
from ginseng.secureos.errors import (
    SecureOsError,
    SessionError,
    SessionLostError,
    SessionRefusedError,
    TermsError,
)
from ginseng.secureos.fairness import FairQueue
from ginseng.secureos.messages import (
    CHALLENGE_BYTES,
    DeviceInfo,
    KeyRelease,
    QuoteReply,
    SealedInputs,
    SealedResults,
    SessionStatus,
    SessionTerms,
)
from ginseng.secureos.session import DeviceSession

__all__ = ["Limits", "Runtime"]

_NAME_BYTES: Final = 16
#: Sessions that are over and whose end can still be asked for.
_REMEMBERED: Final = 256


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What clients may take.

    Attributes
    ----------
    waiting_per_client : int
        Sessions that one client may have waiting.
    program_bytes : int
        Size of a program file.
    run_seconds : float
        Time of one run; a device that takes longer is reset.
    idle_seconds, turn_seconds : float
        While others wait, a session ends when it was not used for so long, or was open for so
        long.

    """

    waiting_per_client: int = 4
    program_bytes: int = 1 << 30
    run_seconds: float = 600.0
    idle_seconds: float = 120.0
    turn_seconds: float = 3600.0


@dataclass
class _Session:
    """A session that was asked for."""

    name: str
    client: str
    #: Until it is over.
    program: Program | None
    commitments: tuple[tuple[int, bytes], ...]
    max_runs: int
    state: str = "queued"
    #: Why it is over.
    error: SecureOsError | None = None
    device: DeviceSession | None = None
    runs: int = 0
    opened: float = 0.0
    used: float = 0.0

    def require(self) -> None:
        """Raise why the session is over, if it is; a fresh exception for every caller."""
        if self.error is not None:
            raise type(self.error)(*self.error.args)


class Runtime:
    """Runs owners' sessions on one board, one at a time; safe to call from several threads.

    Who has several sessions waiting gets the device in turn with the others: the queue is served
    round robin per client. A device that went FATAL is reset and the next session opened; the
    clients of the lost one are told by `SessionLostError`.

    Parameters
    ----------
    board : Board
        A protected build; the caller closes it, after the runtime.
    certificates : sequence of bytes
        Of the device's attestation key, DER, the device's first.
    audit : Path or None
        Where to append the audit log, JSON lines.
    limits : Limits
    clock : callable
        Seconds, monotonic.

    Raises
    ------
    SessionError
        If the board is a build without protection.

    """

    def __init__(
        self,
        board: Board,
        *,
        certificates: Sequence[bytes] = (),
        audit: Path | None = None,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if board.config.tec is None:
            raise SessionError(f"Board {board.name} has no protection; open a build with a TEC")
        self._board: Final = board
        self._certificates: Final = tuple(certificates)
        self._audit: Final = AuditLog(audit)
        self._limits: Final = limits or Limits()
        self._clock: Final = clock
        self._lock: Final = threading.RLock()
        self._queue: FairQueue[str] = FairQueue(self._limits.waiting_per_client)
        self._sessions: dict[str, _Session] = {}
        self._active: _Session | None = None
        self._clear_device()

    def __enter__(self) -> "Runtime":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def describe(self) -> DeviceInfo:
        """Return what the operator says of its device."""
        return DeviceInfo(
            board=self._board.name,
            simulated=self._board.simulated,
            config=self._board.config.canonical,
            certificates=self._certificates,
        )

    def request(self, terms: SessionTerms, *, client: str = "local") -> SessionStatus:
        """Ask for a session; it is opened at once if the device is free, else queued.

        Raises
        ------
        TermsError
            If the terms hold no program for this device.
        QueueFullError
            If the client has too many waiting.
        SessionRefusedError
            If the device refuses them.

        """
        session = self._admit(terms, client)
        with self._lock:
            self._queue.push(client, session.name)
            self._sessions[session.name] = session
            self._audit.record("request", session=session.name, client=client)
            self._advance()
            session.require()
            return self._status(session)

    def status(self, session: str) -> SessionStatus:
        """Return where a session stands; asking also moves the queue on."""
        with self._lock:
            self._advance()
            return self._status(self._find(session))

    def quote(self, session: str, nonce: bytes) -> QuoteReply:
        """Return the device's quote over ``nonce``, 32 bytes."""
        if len(nonce) != CHALLENGE_BYTES:
            raise SessionError(f"A challenge has {CHALLENGE_BYTES} bytes, not {len(nonce)}")
        with self._using(session, "quote") as device:
            return QuoteReply(quote=device.quote(nonce), certificates=self._certificates)

    def load_key(self, session: str, release: KeyRelease) -> SessionStatus:
        """Pass an owner's message on to the device, and import what its key opens."""
        with self._using(session, "key", slot=release.slot) as device:
            for tensor in device.load_key(release):
                self._audit.record("import", session=session, tensor=tensor)
            return self._status(self._find(session))

    def run(self, session: str, inputs: Sequence[SealedInputs]) -> SealedResults:
        """Do the next run on every owner's inputs and return what it stored.

        The last run's inputs once more give its results once more: a reply that was lost costs
        nothing.
        """
        with self._using(session, "run") as device:
            results = device.run(inputs)
            self._note_run(session, device)
            return results

    def end(self, session: str) -> None:
        """End a session, waiting or open; ending one that is over does nothing."""
        with self._lock:
            found = self._find(session)
            if found.state == "queued":
                self._queue.remove(found.client, session)
                self._finish(found, SessionError("The session was ended while it waited"))
            elif found is self._active:
                self._close_active("it was ended")
            self._advance()

    def close(self) -> None:
        """End the open session and refuse those that wait."""
        with self._lock:
            while (name := self._queue.pop()) is not None:
                self._finish(self._sessions[name], SessionError("The operator closed the device"))
            self._close_active("the operator closed the device")

    @contextmanager
    def device_session(self, session: str) -> Iterator[DeviceSession]:
        """Give what the operator itself can do with an open session; `attacks` starts here.

        Errors of the device become errors of the session, as for clients.
        """
        with self._using(session, "operator") as device:
            yield device
            self._note_run(session, device)

    def _admit(self, terms: SessionTerms, client: str) -> _Session:
        if len(terms.program) > self._limits.program_bytes:
            raise TermsError(
                f"The program has {len(terms.program)} bytes, the operator takes "
                f"{self._limits.program_bytes}"
            )
        try:
            program = loads(terms.program)
        except ProgramError as error:
            raise TermsError(str(error)) from None
        if program.config != self._board.config:
            raise TermsError(
                f"Program {program.name} is compiled for the build "
                f"{program.config.digest.hex()[:16]}…, the device is "
                f"{self._board.config.digest.hex()[:16]}…; compile it for this device"
            )
        commitments = tuple((entry.slot, entry.commitment) for entry in terms.commitments)
        if sorted(slot for slot, _ in commitments) != [slot.slot for slot in program.slots]:
            raise TermsError("The terms do not commit exactly the slots of the program, once each")
        if not program.is_sealed:
            raise TermsError(f"Program {program.name} has weights in the clear; it is not taken")
        return _Session(
            secrets.token_hex(_NAME_BYTES), client, program, commitments, terms.max_runs
        )

    def _advance(self) -> None:
        """End a turn that is over while others wait, and open the next session."""
        now = self._clock()
        active = self._active
        if active is not None and len(self._queue):
            if now - active.used > self._limits.idle_seconds:
                self._close_active("it was idle while others waited")
            elif now - active.opened > self._limits.turn_seconds:
                self._close_active("its turn is over and others waited")
        while self._active is None and (name := self._queue.pop()) is not None:
            self._open(self._sessions[name])

    def _open(self, session: _Session) -> None:
        assert session.program is not None  # only finished sessions have none
        try:
            session.device = DeviceSession(
                self._board,
                session.program,
                session.commitments,
                session.max_runs,
                run_timeout=self._limits.run_seconds,
            )
        except (CommandRefusedError, BoardError) as error:
            self._finish(session, SessionRefusedError(f"The terms cannot be run: {error}"))
            self._clear_device()
        except (DeviceFatalError, DeviceTimeoutError) as error:
            self._finish(session, SessionLostError(str(error)))
            self._reset()
        else:
            session.state = "open"
            session.opened = session.used = self._clock()
            self._active = session
            self._audit.record("open", session=session.name, client=session.client)

    @contextmanager
    def _using(self, name: str, event: str, **values: str | int | float) -> Iterator[DeviceSession]:
        """Hold the device for one step of a session and translate what can go wrong."""
        with self._lock:
            self._advance()
            session = self._find(name)
            session.require()
            if session.device is None or session is not self._active:
                raise SessionError(f"Session {name[:8]}… waits for the device; ask for its status")
            session.used = self._clock()
            self._audit.record(event, session=name, **values)
            try:
                yield session.device
            except CommandRefusedError as error:
                self._audit.record("refused", session=name, refusal=error.refusal.name)
                raise SessionRefusedError(str(error)) from None
            except (DeviceFatalError, DeviceTimeoutError) as error:
                self._audit.record("fatal", session=name, reason=str(error))
                lost = SessionLostError(
                    f"{error}; every key of the session is gone, begin one with fresh secrets"
                )
                session.device.abandon()
                self._active = None
                self._finish(session, lost)
                self._reset()
                self._advance()
                raise lost from None

    def _note_run(self, name: str, device: DeviceSession) -> None:
        session = self._find(name)
        if device.runs != session.runs:
            session.runs = device.runs
            self._audit.record("done", session=name, run=device.runs)

    def _close_active(self, reason: str) -> None:
        session, self._active = self._active, None
        if session is None or session.device is None:
            return
        try:
            session.device.end()
        except (CommandRefusedError, DeviceFatalError, DeviceTimeoutError):
            self._reset()
        self._finish(session, SessionError(f"The session is over: {reason}"))

    def _finish(self, session: _Session, error: SecureOsError) -> None:
        session.state, session.error = "over", error
        session.device = session.program = None
        self._audit.record("over", session=session.name, reason=str(error))
        over = [s.name for s in self._sessions.values() if s.state == "over"]
        for name in over[:-_REMEMBERED]:
            del self._sessions[name]

    def _clear_device(self) -> None:
        """Take the device back to IDLE, wherever the session before stopped."""
        monitor = Monitor(self._board)
        if monitor.state in (State.CONFIG, State.LOCKED):
            monitor.end()
        elif monitor.state is not State.IDLE:
            self._reset()

    def _reset(self) -> None:
        self._audit.record("reset")
        Monitor(self._board).reset()

    def _find(self, name: str) -> _Session:
        try:
            return self._sessions[name]
        except KeyError:
            raise SessionError("There is no such session; request one") from None

    def _status(self, session: _Session) -> SessionStatus:
        state, position = session.state, 0
        if session.device is not None:
            state = "ready" if session.device.ready else "locked"
        elif state == "queued":
            position = list(self._queue).index(session.name) + 1
        return SessionStatus(
            session=session.name,
            state=state,
            position=position,
            imported=session.device is not None and session.device.imported,
            runs=session.runs,
            reason=str(session.error) if session.error else "",
        )
