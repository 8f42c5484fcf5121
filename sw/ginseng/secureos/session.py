"""One session on the device: its commands in order, from BEGIN to END. Untrusted for secrecy."""

from collections import deque
from collections.abc import Sequence
from hashlib import sha256
from typing import Final

from ginseng.driver import Board, Monitor
from ginseng.driver.board import read_register
from ginseng.isa.table import Domain, SlotUse, Source
from ginseng.program import Program, SealedTensor, TensorSpec
from ginseng.secureos.errors import MessageError, SessionError
from ginseng.secureos.messages import KeyRelease, SealedInputs, SealedResults, SealedValue
from ginseng.secureos.placement import Placement

__all__ = ["DeviceSession"]


class DeviceSession:
    """A session that the device has open; driver errors pass through.

    Parameters
    ----------
    board : Board
    program : Program
        Sealed.
    commitments : sequence of (int, bytes)
        By slot.
    max_runs : int
        As agreed.
    run_timeout : float
        Seconds that one run may take.

    Attributes
    ----------
    placement : Placement
        Where the tensors stand.
    runs : int
        Runs done.

    """

    def __init__(
        self,
        board: Board,
        program: Program,
        commitments: Sequence[tuple[int, bytes]],
        max_runs: int,
        *,
        run_timeout: float,
    ) -> None:
        self._board: Final = board
        self._program: Final = program
        self._monitor: Final = Monitor(board)
        self._run_timeout: Final = run_timeout
        self._loaded: set[int] = set()
        self._imports = deque(
            (tensor, content)
            for tensor in program.tensors
            if tensor.is_imported
            and isinstance(content := program.contents[tensor.name], SealedTensor)
        )
        self._last: tuple[bytes, SealedResults] | None = None
        self.runs = 0
        self.placement: Final = Placement(board, program)
        self._configure(commitments, max_runs)

    @property
    def imported(self) -> bool:
        """Whether every measured tensor is in place, so that PCR4 is final."""
        return not self._imports

    @property
    def ready(self) -> bool:
        """Whether the next command may be RUN: every slot loaded, everything imported."""
        return self.imported and self._loaded == {slot.slot for slot in self._program.slots}

    def quote(self, nonce: bytes) -> bytes:
        """Return a quote over ``nonce``."""
        return self._monitor.quote(nonce)

    def load_key(self, release: KeyRelease) -> tuple[str, ...]:
        """Pass a key on; return the tensors that could be imported then."""
        self._monitor.load_key(release.enc, release.ciphertext)
        self._loaded.add(release.slot)
        done = []
        # Imports ascend by handle, so one that lacks its key holds up those behind it.
        while self._imports and self._imports[0][0].slot in self._loaded:
            tensor, content = self._imports.popleft()
            self._import(tensor, content)
            done.append(tensor.name)
        return tuple(done)

    def run(self, inputs: Sequence[SealedInputs]) -> SealedResults:
        """Do the next run and return what it stored; the last run repeated gives the same again.

        Raises
        ------
        MessageError
            If the inputs are not exactly those that the program takes.
        SessionError
            If they are of another run than the next.

        """
        digest = _digest(inputs)
        if self._last is not None and self._last[0] == digest:
            return self._last[1]
        self.place(inputs)
        self.execute()
        results = self.collect()
        self._last = (digest, results)
        return results

    def place(self, inputs: Sequence[SealedInputs]) -> None:
        """Write the inputs of the next run; nothing is written unless they are complete."""
        for given in inputs:
            if given.run != self.runs + 1:
                raise SessionError(
                    f"The next run of this session is {self.runs + 1}, not {given.run}"
                )
        values = [value for given in inputs for value in given.values]
        named = sorted(value.tensor for value in values)
        wanted = sorted(t.name for t in self._program.tensors if t.domain is Domain.IMPORT)
        if named != wanted:
            raise MessageError(f"A run takes the inputs {wanted}, not {named}")
        for value in values:
            self.placement.put(value.tensor, SealedTensor(value.sealed))

    def execute(self) -> None:
        """RUN, on whatever DRAM holds."""
        self._monitor.run(timeout=self._run_timeout)
        self.runs += 1

    def collect(self) -> SealedResults:
        """Read what the last run stored."""
        values = []
        for tensor in self._program.tensors:
            if tensor.domain is Domain.EXPORT:
                sealed = self.placement.get(tensor.name)
                values.append(SealedValue(tensor=tensor.name, sealed=sealed.data))
        return SealedResults(
            run=self.runs,
            values=tuple(values),
            **{
                name: read_register(self._board, name)
                for name in ("cycles", "read_bytes", "write_bytes")
            },
        )

    def end(self) -> None:
        """END: the device forgets every key; the DRAM is given back."""
        try:
            self._monitor.end()
        finally:
            self.placement.free()

    def abandon(self) -> None:
        """Give the DRAM back without a word to the device, which is in FATAL or silent."""
        self.placement.free()

    def _configure(self, commitments: Sequence[tuple[int, bytes]], max_runs: int) -> None:
        try:
            self._monitor.begin()
            given = dict(commitments)
            for slot in self._program.slots:
                self._monitor.slot(slot.slot, SlotUse(slot.use), given[slot.slot])
            for tensor in self._program.tensors:
                self._monitor.row(tensor.handle, self.placement.row(tensor))
            for tensor in self._program.tensors:
                content = self._program.contents.get(tensor.name)
                if tensor.is_imported and tensor.source is Source.PLAIN:
                    assert isinstance(content, bytes)  # only Source.SEALED is ever sealed
                    self._import(tensor, content)
                elif isinstance(content, SealedTensor) and not tensor.is_imported:
                    self.placement.put(tensor.name, content)
            self._monitor.lock(self._program.by_name[self._program.entry].handle, max_runs)
        except BaseException:
            self.placement.free()
            raise

    def _import(self, tensor: TensorSpec, content: bytes | SealedTensor) -> None:
        with self.placement.staged(content) as source:
            self._monitor.import_tensor(tensor.handle, source)


def _digest(inputs: Sequence[SealedInputs]) -> bytes:
    """Return a hash that is equal only for the same inputs."""
    state = sha256()
    for given in inputs:
        state.update(f"run {given.run} of {len(given.values)} values\n".encode())
        for value in given.values:
            for part in (value.tensor.encode(), value.sealed):
                state.update(len(part).to_bytes(8, "big") + part)
    return state.digest()
