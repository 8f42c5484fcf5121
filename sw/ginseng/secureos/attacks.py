"""What a malicious host tries, on a simulated board; each attack must be stopped, and is.

The host owns DRAM, the driver and every message. TEC specification §10, monitor specification §7.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from ginseng.driver import SimulatedBoard
from ginseng.isa.formats import TAG_BYTES, chunk_place
from ginseng.isa.table import Domain
from ginseng.program import TensorSpec, loads
from ginseng.secureos.errors import (
    AttackError,
    QuoteRefusedError,
    ResultError,
    SessionLostError,
    SessionRefusedError,
)
from ginseng.secureos.keys import SlotSecret
from ginseng.secureos.local import LocalSession, Samples
from ginseng.secureos.session import DeviceSession

__all__ = ["ATTACKS", "Attack", "AttackResult", "flip_bit", "run_attacks"]


@dataclass(frozen=True, kw_only=True)
class AttackResult:
    """How an attack ended.

    Attributes
    ----------
    name : str
        Key in `ATTACKS`.
    outcome : {"fatal", "refused"}
        Whether the device stopped for ever, or somebody refused and went on.
    by : str
        Who stopped it: ``device``, ``monitor``, ``model owner`` or ``data owner``.
    reason : str
        In the words of who stopped it.

    """

    name: str
    outcome: Literal["fatal", "refused"]
    by: str
    reason: str


class _UnfitError(AttackError):
    """An attack that has nothing to attack in this program."""


#: Tries the attack on an open session and one run's samples. It returns when the attack was not
#: noticed, and lets the error of whoever stopped it through.
Attack = Callable[[LocalSession, Mapping[str, NDArray[np.floating]]], None]


def run_attacks(
    session: LocalSession, samples: Samples, *, names: Iterable[str] | None = None
) -> tuple[AttackResult, ...]:
    """Try attacks one after the other, each in a session of its own.

    Parameters
    ----------
    session : LocalSession
        On a simulated board; it is renewed before each attack and after the last.
    samples : array or mapping of str to array
        As of `LocalSession.infer`; the first batch is used.
    names : iterable of str or None
        Keys of `ATTACKS`; all that fit the program by default.

    Raises
    ------
    AttackError
        If an attack was not noticed, or one that was asked for by name cannot be tried.

    """
    if not isinstance(session.board, SimulatedBoard):
        raise AttackError(f"Board {session.board.name} does not let its DRAM be changed")
    batch = session.data_owner.batch
    given = (
        samples if isinstance(samples, Mapping) else {session.data_owner.inputs[0].name: samples}
    )
    first = {name: array[:batch] for name, array in given.items()}
    results = []
    for name in ATTACKS if names is None else names:
        if name not in ATTACKS:
            raise AttackError(f"Attack {name!r} is not known (attacks: {', '.join(ATTACKS)})")
        session.renew()
        try:
            results.append(_stopped(name, session, first))
        except _UnfitError:
            if names is not None:
                raise
    session.renew()
    return tuple(results)


def _stopped(
    name: str, session: LocalSession, samples: Mapping[str, NDArray[np.floating]]
) -> AttackResult:
    try:
        ATTACKS[name](session, samples)
    except SessionLostError as error:
        return AttackResult(name=name, outcome="fatal", by="device", reason=str(error))
    except SessionRefusedError as error:
        return AttackResult(name=name, outcome="refused", by="monitor", reason=str(error))
    except ResultError as error:
        return AttackResult(name=name, outcome="refused", by="data owner", reason=str(error))
    except QuoteRefusedError as error:
        owners = (session.model_owner, session.data_owner)
        by = next(o.name for o in owners if o.verdict is not None and not o.verdict.accepted)
        return AttackResult(name=name, outcome="refused", by=f"{by} owner", reason=str(error))
    raise AttackError(f"Attack {name!r} was not noticed by anybody; this is a defect, report it")


@contextmanager
def _host(session: LocalSession) -> Iterator[DeviceSession]:
    """Act as the operator of the open session."""
    with session.runtime.device_session(session.name) as device:
        yield device


def _region(session: LocalSession, address: int, nbytes: int) -> NDArray[np.uint8]:
    """Return DRAM as a writable view."""
    board = session.board
    assert isinstance(board, SimulatedBoard)  # run_attacks asked
    at = address - board.config.bus.window_base
    return board.dram[at : at + nbytes]


def _tensor(session: LocalSession, *domains: Domain, chunks: int = 1) -> TensorSpec:
    """Return the longest tensor of the first domain that has one with so many chunks."""
    tensors = loads(session.terms.program).tensors
    for domain in domains:
        fitting = [t for t in tensors if t.domain is domain and t.length >= chunks * t.chunk]
        if fitting:
            return max(fitting, key=lambda tensor: tensor.length)
    raise _UnfitError(f"The program has no tensor of {chunks} whole chunks to attack")


def flip_bit(data: NDArray[np.uint8]) -> None:
    """Flip the top bit of the middle byte, in place: what every bit-flip attack does."""
    data[len(data) // 2] ^= 0x80


def _flip(session: LocalSession, domain: Domain) -> None:
    tensor = _tensor(session, domain)
    # In a chunk, not its tag.
    middle = tensor.chunks // 2
    with _host(session) as device:
        base = device.placement[tensor.name] + chunk_place(middle, tensor.chunk)
    flip_bit(_region(session, base, min(tensor.chunk, tensor.length - middle * tensor.chunk)))


def _flip_weights(session: LocalSession, samples: Mapping[str, NDArray[np.floating]]) -> None:
    """Flip one bit of a weight tensor's ciphertext."""
    _flip(session, Domain.WEIGHTS)
    session.run(samples)


def _flip_program(session: LocalSession, samples: Mapping[str, NDArray[np.floating]]) -> None:
    """Flip one bit of the program's ciphertext."""
    _flip(session, Domain.PROGRAM)
    session.run(samples)


def _flip_input(session: LocalSession, samples: Mapping[str, NDArray[np.floating]]) -> None:
    """Flip one bit of the input's ciphertext."""
    sealed = session.data_owner.seal(samples)
    with _host(session) as device:
        device.place([sealed])
        _flip(session, Domain.IMPORT)
        device.execute()
        session.data_owner.open(device.collect(), run=sealed.run)


def _flip_result(session: LocalSession, samples: Mapping[str, NDArray[np.floating]]) -> None:
    """Flip one bit of the result's ciphertext before it is sent."""
    sealed = session.data_owner.seal(samples)
    with _host(session) as device:
        device.place([sealed])
        device.execute()
        _flip(session, Domain.EXPORT)
        session.data_owner.open(device.collect(), run=sealed.run)


def _splice(session: LocalSession, samples: Mapping[str, NDArray[np.floating]]) -> None:
    """Swap two chunks of a tensor, their tags with them."""
    tensor = _tensor(session, Domain.WEIGHTS, Domain.PROGRAM, Domain.IMPORT, chunks=2)
    size = tensor.chunk + TAG_BYTES
    with _host(session) as device:
        pair = _region(session, device.placement[tensor.name], 2 * size)
    pair[:] = np.roll(pair, size)
    session.run(samples)


def _replay_input(session: LocalSession, samples: Mapping[str, NDArray[np.floating]]) -> None:
    """Give the device an earlier run's input ciphertext and tags once more."""
    session.run(samples)
    tensor = _tensor(session, Domain.IMPORT)
    sealed = session.data_owner.seal(samples)
    with _host(session) as device:
        old = device.placement.get(tensor.name)
        device.place([sealed])
        device.placement.put(tensor.name, old)
        device.execute()
        session.data_owner.open(device.collect(), run=sealed.run)


def _run_restored(
    session: LocalSession, samples: Mapping[str, NDArray[np.floating]], old: NDArray[np.uint8]
) -> None:
    """Do one run whose DRAM is ``old`` when it starts."""
    sealed = session.data_owner.seal(samples)
    with _host(session) as device:
        device.place([sealed])
        _restore(session, old)
        device.execute()
        session.data_owner.open(device.collect(), run=sealed.run)


def _roll_back_run(session: LocalSession, samples: Mapping[str, NDArray[np.floating]]) -> None:
    """Restore all of DRAM as it was after an earlier run of the session."""
    session.run(samples)
    old = _snapshot(session)
    session.run(samples)
    _run_restored(session, samples, old)


def _roll_back_session(session: LocalSession, samples: Mapping[str, NDArray[np.floating]]) -> None:
    """Restore all of DRAM as it was in an earlier session, weights and program too."""
    session.run(samples)
    old = _snapshot(session)
    session.renew()
    _run_restored(session, samples, old)


def _foreign_key(session: LocalSession, samples: Mapping[str, NDArray[np.floating]]) -> None:
    """Commit the result's slot to a key of the host's own."""
    slot = _tensor(session, Domain.EXPORT).slot
    session.runtime.end(session.name)
    session.data_owner.renew()
    session.terms = session.draw_terms()
    for owner in (session.model_owner, session.data_owner):
        owner.agree(session.terms)
    own = SlotSecret(slot).commitment
    forged = replace(
        session.terms,
        commitments=tuple(own if c.slot == slot else c for c in session.terms.commitments),
    )
    session.begin(forged)
    session.attest(session.model_owner)
    session.attest(session.data_owner)
    session.run(samples)


def _old_result(session: LocalSession, samples: Mapping[str, NDArray[np.floating]]) -> None:
    """Offer an earlier run's result as the new one's."""
    first, second = session.data_owner.seal(samples), session.data_owner.seal(samples)
    old = session.runtime.run(session.name, [first])
    session.runtime.run(session.name, [second])
    session.data_owner.open(replace(old, run=second.run), run=second.run)


def _snapshot(session: LocalSession) -> NDArray[np.uint8]:
    board = session.board
    assert isinstance(board, SimulatedBoard)  # run_attacks asked
    return board.dram.copy()


def _restore(session: LocalSession, image: NDArray[np.uint8]) -> None:
    board = session.board
    assert isinstance(board, SimulatedBoard)  # run_attacks asked
    board.dram[:] = image


#: Every attack, by the name that reports give it.
ATTACKS: Final[Mapping[str, Attack]] = MappingProxyType(
    {
        "bit flip in the weights": _flip_weights,
        "bit flip in the program": _flip_program,
        "bit flip in the input": _flip_input,
        "bit flip in the result": _flip_result,
        "two chunks swapped": _splice,
        "old input replayed": _replay_input,
        "memory rolled back by one run": _roll_back_run,
        "memory rolled back to an earlier session": _roll_back_session,
        "the host's own key in the result's slot": _foreign_key,
        "old result offered as new": _old_result,
    }
)
