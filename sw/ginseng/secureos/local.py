"""The whole protocol in one process: two owners, one host, and nothing between them but messages.

For `ginseng run` and `ginseng demo`. Each message is written to bytes and read back, so that the
parties cannot share an object by accident; over HTTP the same bytes travel.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from ginseng.driver import Board, SimulatedBoard
from ginseng.program import Program
from ginseng.secureos.client import DataOwner, ModelOwner
from ginseng.secureos.errors import MessageError, ProvisionError
from ginseng.secureos.messages import (
    DeviceInfo,
    KeyRelease,
    QuoteReply,
    SealedInputs,
    SealedResults,
    SessionStatus,
    SessionTerms,
    decode,
    encode,
)
from ginseng.secureos.owner import Owner
from ginseng.secureos.policy import Policy
from ginseng.secureos.provision import Manufacturer
from ginseng.secureos.runtime import Runtime
from ginseng.secureos.verifier import Verdict

__all__ = ["LocalSession", "Progress", "Step", "local_session"]

M = TypeVar("M")
Samples = NDArray[np.floating] | Mapping[str, NDArray[np.floating]]
Results = NDArray[Any] | dict[str, NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class Step:
    """One thing that a party did; ``nbytes`` of messages left it."""

    party: str
    text: str
    nbytes: int = 0


Progress = Callable[[Step], None]


class LocalSession:
    """A model owner, a data owner and an operator's host, with one session open between them.

    Get it from `local_session`. The attributes are the parties; each has only what it may have.

    Attributes
    ----------
    board : Board
    runtime : Runtime
        The operator.
    model_owner : ModelOwner
    data_owner : DataOwner
    terms : SessionTerms
        Of the open session.
    name : str
        Its name at the operator.
    verdicts : dict of str to Verdict
        What each owner made of its quote, by owner.
    cycles, read_bytes, write_bytes : int
        Of all runs of this object together.

    """

    def __init__(
        self,
        board: Board,
        runtime: Runtime,
        model_owner: ModelOwner,
        data_owner: DataOwner,
        *,
        max_runs: int,
        monitor_rom: bytes,
        progress: Progress | None = None,
    ) -> None:
        self.board: Final = board
        self.runtime: Final = runtime
        self.model_owner: Final = model_owner
        self.data_owner: Final = data_owner
        self.verdicts: dict[str, Verdict] = {}
        self.name = ""
        self.cycles = self.read_bytes = self.write_bytes = 0
        self._max_runs: Final = max_runs
        self._monitor_rom: Final = monitor_rom
        self._progress = progress
        self.terms = self.draw_terms()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def draw_terms(self) -> SessionTerms:
        """Return the terms that the parties' published commitments make."""
        return SessionTerms(
            program=self.model_owner.program,
            commitments=tuple(
                sorted(
                    (*self.model_owner.commitments, *self.data_owner.commitments),
                    key=lambda entry: entry.slot,
                )
            ),
            max_runs=self._max_runs,
            monitor_rom=self._monitor_rom,
        )

    def open(self) -> None:
        """Agree, attest and release, until inputs can be sent.

        Raises
        ------
        TermsError, QuoteRefusedError
            If an owner refuses.
        SessionError
            If the operator or the device does.

        """
        self.begin(self._sent(SessionTerms, self.terms, "everybody", "agree on the terms"))
        for owner in (self.model_owner, self.data_owner):
            owner.agree(self.terms)
            self.attest(owner)

    def begin(self, terms: SessionTerms) -> None:
        """Have the operator open a session on ``terms``; owners are not asked."""
        status = self._sent(
            SessionStatus, self.runtime.request(terms), "host", "opens a session on the device"
        )
        self.name = status.session

    def attest(self, owner: Owner) -> None:
        """Let ``owner`` challenge the device, appraise the quote and release its keys."""
        quote = self._sent(
            QuoteReply,
            self.runtime.quote(self.name, owner.challenge()),
            "device",
            f"signs a quote for the {owner.name} owner",
        )
        releases = owner.release(quote)
        assert owner.verdict is not None  # release has just appraised
        self.verdicts[owner.name] = owner.verdict
        self._note(f"{owner.name} owner", f"accepts the quote: {owner.verdict.reason}")
        for release in releases:
            message = self._sent(
                KeyRelease,
                release,
                f"{owner.name} owner",
                f"releases the key of slot {release.slot} to this session only",
            )
            self.runtime.load_key(self.name, message)

    def quiet(self) -> None:
        """Tell nobody of further steps, as when many runs follow."""
        self._progress = None

    def renew(self) -> None:
        """Begin again with fresh session secrets, as after a FATAL."""
        if self.name:
            self.runtime.end(self.name)
        self.data_owner.renew()
        self.terms = self.draw_terms()
        self.open()

    def infer(self, samples: Samples) -> Results:
        """Return the network's outputs for ``samples``, as the data owner sees them.

        Parameters
        ----------
        samples : array or mapping of str to array
            ``(n, *shape)`` real numbers, any ``n``; by input name if there are several inputs.

        Returns
        -------
        array or dict of str to array
            ``(n, *shape)`` float32; by output name if there are several outputs.

        Raises
        ------
        SessionLostError
            If the device went FATAL; `renew` begins again.

        """
        given = samples if isinstance(samples, Mapping) else self._single(samples)
        count = min((len(array) for array in given.values()), default=0)
        if not count:
            raise MessageError("There are no samples to run; give at least one")
        parts = []
        for at in range(0, count, self.data_owner.batch):
            part = {name: array[at : at + self.data_owner.batch] for name, array in given.items()}
            parts.append(self.run(part))
        outputs = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        return outputs if len(outputs) > 1 else next(iter(outputs.values()))

    def run(self, samples: Mapping[str, NDArray[np.floating]]) -> dict[str, NDArray[Any]]:
        """Do one run on at most `DataOwner.batch` samples."""
        number = self.data_owner.next_run
        sealed = self._sent(
            SealedInputs, self.data_owner.seal(samples), "data owner", f"seals run {number}"
        )
        results = self._sent(
            SealedResults, self.runtime.run(self.name, [sealed]), "device", f"did run {number}"
        )
        self.cycles += results.cycles
        self.read_bytes += results.read_bytes
        self.write_bytes += results.write_bytes
        return self.data_owner.open(results, run=number)

    def close(self) -> None:
        """End the session and the operator's runtime; the board stays open."""
        self.runtime.close()

    def _single(self, samples: NDArray[np.floating]) -> dict[str, NDArray[np.floating]]:
        names = [port.name for port in self.data_owner.inputs]
        if len(names) != 1:
            raise MessageError(f"There are several inputs, {names}; give an array for each")
        return {names[0]: samples}

    def _sent(self, kind: type[M], message: M, party: str, text: str) -> M:
        """Carry a message as bytes."""
        data = encode(message)
        self._note(party, text, len(data))
        return decode(kind, data)

    def _note(self, party: str, text: str, nbytes: int = 0) -> None:
        if self._progress is not None:
            self._progress(Step(party=party, text=text, nbytes=nbytes))


def local_session(
    board: Board,
    program: Program,
    *,
    max_runs: int = 1 << 20,
    policy: Policy | None = None,
    manufacturer: Manufacturer | None = None,
    certificates: Sequence[bytes] = (),
    roots: Sequence[bytes] = (),
    monitor_rom: bytes | None = None,
    audit: Path | None = None,
    progress: Progress | None = None,
) -> LocalSession:
    """Open a protected session for ``program`` on ``board`` and return it, ready for `infer`.

    Parameters
    ----------
    board : Board
        A protected build.
    program : Program
        As the compiler wrote it. Slots of ``model`` and ``data``.
    max_runs : int
        Runs after which the device does no more.
    policy : Policy or None
        Of both owners; by default the root strength of the board's build is accepted, which for
        a simulated board is ``simulated``.
    manufacturer : Manufacturer or None
        Who certifies a simulated board; by default one is made up.
    certificates, roots : sequence of bytes
        Of a real device: its certificate and the manufacturers that are trusted, DER.
    monitor_rom : bytes or None
        Reference value of the monitor ROM; a simulated board knows its own.
    audit : Path or None
        The operator's log.
    progress : callable or None
        Told of every step.

    Raises
    ------
    SecureOsError
        Whatever any party finds wrong.

    """
    if not certificates:
        if not isinstance(board, SimulatedBoard):
            raise ProvisionError(
                f"Board {board.name} is a device; give its certificates, the trusted roots and "
                "the hash of its monitor ROM"
            )
        maker = manufacturer or Manufacturer.create()
        strength = board.config.root
        certificates = (maker.certify(board.attestation_public_key(), strength=strength),)
        roots = (maker.root,)
        monitor_rom = monitor_rom or board.monitor_rom
    if monitor_rom is None:
        raise ProvisionError("Give the hash of the monitor ROM that the device shall have")
    policy = policy or Policy(root_strengths=frozenset({board.config.root}))
    runtime = Runtime(board, certificates=certificates, audit=audit)
    info = decode(DeviceInfo, encode(runtime.describe()))
    if progress is not None:
        progress(Step(party="host", text=f"offers board {info.board}: {'; '.join(info.simulated)}"))
    model_owner = ModelOwner(program, roots=roots, policy=policy)
    data_owner = DataOwner(model_owner.program, roots=roots, policy=policy)
    session = LocalSession(
        board,
        runtime,
        model_owner,
        data_owner,
        max_runs=max_runs,
        monitor_rom=monitor_rom,
        progress=progress,
    )
    try:
        session.open()
    except BaseException:
        session.close()
        raise
    return session
