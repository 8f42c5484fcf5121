"""The two owners of an inference: whose model it is, and whose data.

They share nothing but published messages. Monitor specification §5, TEC specification §4.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ginseng.isa.table import Domain, SlotUse
from ginseng.program import (
    PortSpec,
    Program,
    ProgramError,
    SealedTensor,
    TensorSpec,
    dumps,
    loads,
    open_tensor,
    seal_tensor,
)
from ginseng.secureos.errors import (
    ResultError,
    RunReuseError,
    SessionError,
    TermsError,
)
from ginseng.secureos.exposure import check_program
from ginseng.secureos.keys import SlotSecret
from ginseng.secureos.messages import SealedInputs, SealedResults, SealedValue, SessionTerms
from ginseng.secureos.owner import Owner
from ginseng.secureos.policy import Policy

__all__ = ["DataOwner", "ModelOwner"]


class ModelOwner(Owner):
    """Owns the weights: seals the program once, and releases its secret to sessions it checked.

    The secret belongs to the sealed program, so it may open several sessions: the device only
    decrypts with it.

    Parameters
    ----------
    program : Program
        As the compiler wrote it; its weights leave this object only sealed.
    roots, policy, name, clock
        As of `Owner`.

    """

    stage = "locked"

    def __init__(
        self,
        program: Program,
        *,
        roots: Sequence[bytes],
        policy: Policy,
        name: str = "model",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(name, roots=roots, policy=policy, clock=clock)
        slots = [slot for slot in program.slots if slot.owner == name]
        if len(slots) > 1 or any(slot.use is not SlotUse.STATIC for slot in slots):
            raise TermsError(
                f"{name} seals a program under one static slot, not under "
                f"{[slot.slot for slot in slots]}; compile it with one slot for its weights"
            )
        self._secrets = {slot.slot: SlotSecret(slot.slot) for slot in slots}
        if not program.is_sealed:
            if not slots:
                raise TermsError(f"Program {program.name} has no static slot of {name}")
            program = self._secrets[slots[0].slot].seal_program(program)
        self._program = dumps(program)

    @property
    def program(self) -> bytes:
        """The sealed `.ginseng` file; anybody may see it."""
        return self._program

    def agree(self, terms: SessionTerms) -> None:
        """As of `Owner`; the program must be this owner's, byte for byte."""
        if terms.program != self._program:
            raise TermsError(f"The terms show another program than {self.name} sealed")
        super().agree(terms)


@dataclass(frozen=True)
class _Run:
    """What a data owner remembers of a run: the hash of its plaintext."""

    digest: bytes
    samples: int


class DataOwner(Owner):
    """Owns inputs and results: seals one run's inputs at a time, opens that run's results.

    Guarantees: never two plaintexts under one key and run number (a retry is the identical
    message); a secret goes to one session only; a result of run n opens as nothing but run n,
    and all its tensors or none.

    Parameters
    ----------
    program : bytes
        The sealed program that it is shown; it is checked before anything is committed.
    roots, policy, name, clock
        As of `Owner`.

    Raises
    ------
    TermsError
        If ``program`` is no sealed program with session slots of this owner.
    QuoteRefusedError
        If it is not legal, or unfit for several owners.

    """

    def __init__(
        self,
        program: bytes,
        *,
        roots: Sequence[bytes],
        policy: Policy,
        name: str = "data",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(name, roots=roots, policy=policy, clock=clock)
        try:
            self._program = loads(program)
        except ProgramError as error:
            raise TermsError(str(error)) from None
        check_program(self._program)
        self._shown = program
        slots = [slot for slot in self._program.slots if slot.owner == name]
        if not slots or any(slot.use is not SlotUse.SESSION for slot in slots):
            raise TermsError(
                f"The program gives {name} no session slots of its own "
                f"(owners: {sorted({slot.owner for slot in self._program.slots})})"
            )
        self._inputs = self._ports(self._program.inputs, Domain.IMPORT)
        self._outputs = self._ports(self._program.outputs, Domain.EXPORT)
        self.renew()

    @property
    def next_run(self) -> int:
        """The number of the next run; 0 before keys were released."""
        return self._next if self._cnf else 0

    @property
    def batch(self) -> int:
        """Samples that one run takes."""
        return self._program.config.core.batch

    @property
    def inputs(self) -> tuple[PortSpec, ...]:
        """Inputs that this owner gives."""
        return tuple(port for port, _ in self._inputs)

    @property
    def outputs(self) -> tuple[PortSpec, ...]:
        """Outputs that this owner can read."""
        return tuple(port for port, _ in self._outputs)

    def renew(self) -> None:
        """Forget the session and make fresh secrets; then agree to terms that commit to them.

        Whatever went wrong (FATAL, a lost host, a lost counter), this is the way on.
        """
        self._secrets = {
            slot.slot: SlotSecret(slot.slot)
            for slot in self._program.slots
            if slot.owner == self.name
        }
        self._agreement = None
        self._verdict = None
        self._cnf = b""
        self._next = 1
        self._runs: dict[int, _Run] = {}

    def agree(self, terms: SessionTerms) -> None:
        """As of `Owner`; the program must be the one that this owner was shown."""
        if terms.program != self._shown:
            raise TermsError(f"The terms show another program than {self.name} was shown before")
        super().agree(terms)

    def seal(
        self, samples: Mapping[str, NDArray[np.floating]], *, run: int | None = None
    ) -> SealedInputs:
        """Quantise, pack and seal one run's inputs.

        Parameters
        ----------
        samples : mapping of str to array
            By input name: ``(n, *shape)`` real numbers, 1 to `batch` samples, the same ``n``
            for every input.
        run : int or None
            A number that was used before, for a retry with the same samples; None is the next.

        Raises
        ------
        SessionError
            If no keys were released yet, or ``run`` is beyond the next.
        RunReuseError
            If ``run`` was used for other samples.
        ProgramError
            If an input is missing, unknown, or of another shape.

        """
        number = self.next_run if run is None else run
        if not 1 <= number <= self.next_run:
            raise SessionError(
                f"Run {number} cannot be sealed: "
                + ("release keys first" if not self._cnf else f"the next run is {self.next_run}")
            )
        texts, count = self._pack(samples)
        # SEC: OWNER.RUN_REUSE -- one run number, one plaintext: nonces are made of nothing else.
        digest = sha256(b"".join(texts[tensor.name] for _, tensor in self._inputs)).digest()
        if self._runs.setdefault(number, _Run(digest, count)) != _Run(digest, count):
            raise RunReuseError(
                f"Run {number} was sealed with other samples; seal these as run "
                f"{self.next_run}, or begin a new session"
            )
        self._next = max(self._next, number + 1)
        values = []
        for _, tensor in self._inputs:
            sealed = seal_tensor(self._key(tensor), tensor, version=number, data=texts[tensor.name])
            values.append(SealedValue(tensor=tensor.name, sealed=sealed.data))
        return SealedInputs(run=number, values=tuple(values))

    def open(self, results: SealedResults, *, run: int) -> dict[str, NDArray[Any]]:
        """Open the results of ``run``: by output name, ``(n, *shape)`` numbers.

        They are real ones, or what the owner's steps of the port make of these.

        Raises
        ------
        ResultError
            If they are another run's, incomplete, or a chunk does not open.

        """
        if not self._cnf:
            raise SessionError(f"{self.name} released no keys yet; there is nothing to open with")
        if self._inputs and run not in self._runs:
            raise ResultError(f"Run {run} has no inputs of {self.name}; it cannot have results")
        samples = self._runs[run].samples if self._inputs else self.batch
        if results.run != run:
            raise ResultError(f"These are results of run {results.run}, not of run {run}")
        offered = {value.tensor: value for value in results.values}
        if len(offered) != len(results.values):
            raise ResultError("A tensor is offered twice")
        opened: dict[str, NDArray[Any]] = {}
        core = self._program.config.core
        for port, tensor in self._outputs:
            value = offered.get(tensor.name)
            if value is None:
                raise ResultError(f"Output {port.name} of run {run} is missing")
            sealed = SealedTensor(value.sealed)
            try:
                data = open_tensor(self._key(tensor), tensor, version=run, sealed=sealed)
            except ProgramError as error:
                raise ResultError(f"The results of run {run} do not open: {error}") from None
            integers = port.unpack(data, batch=core.batch, block=core.block)
            opened[port.name] = port.dequantise(integers[:samples])
        return opened

    def _bind(self, cnf: bytes) -> None:
        # SEC: OWNER.ONE_SESSION -- another session begins to count anew: it gets other secrets.
        if self._cnf and self._cnf != cnf:
            raise SessionError(
                f"{self.name} released its secrets to another session already; renew them and "
                "agree to new terms"
            )
        self._cnf = cnf

    def _key(self, tensor: TensorSpec) -> bytes:
        tec = self._program.config.tec
        assert tec is not None  # Program refuses such a configuration
        return self._secrets[tensor.slot].session_key(self._cnf, tec.key_bytes)

    def _ports(
        self, ports: Sequence[PortSpec], domain: Domain
    ) -> tuple[tuple[PortSpec, TensorSpec], ...]:
        """Return this owner's ports with their tensors; every tensor of its has one."""
        mine = {slot.slot for slot in self._program.slots if slot.owner == self.name}
        found = tuple(
            (port, tensor)
            for port in ports
            if (tensor := self._program.by_name[port.tensor]).slot in mine
        )
        named = [tensor.name for _, tensor in found]
        for tensor in self._program.tensors:
            if tensor.domain is domain and tensor.slot in mine and named.count(tensor.name) != 1:
                raise TermsError(
                    f"Tensor {tensor.name} of {self.name} is named by {named.count(tensor.name)} "
                    "ports of the program, not by one"
                )
        return found

    def _pack(self, samples: Mapping[str, NDArray[np.floating]]) -> tuple[dict[str, bytes], int]:
        """Return each tensor's plaintext, and how many samples there are."""
        names = {port.name for port, _ in self._inputs}
        if set(samples) != names:
            raise ProgramError(f"Inputs are {sorted(names)}, not {sorted(samples)}")
        counts = {len(array) for array in samples.values()}
        if len(counts) != 1:
            raise ProgramError(f"Every input has the same number of samples, not {sorted(counts)}")
        core = self._program.config.core
        texts = {
            tensor.name: port.pack(
                port.quantise(np.asarray(samples[port.name])), batch=core.batch, block=core.block
            )
            for port, tensor in self._inputs
        }
        return texts, counts.pop()
