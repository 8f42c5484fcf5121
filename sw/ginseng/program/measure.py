"""Reference values of a quote, computed from the artefacts (monitor specification §2, §4)."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from ginseng.isa.formats import (
    COMMITMENT_BYTES,
    PCR_BYTES,
    PCR_COUNT,
    Pcr,
    event_header,
)
from ginseng.isa.mailbox import EventType
from ginseng.isa.table import KEY_SLOTS, Domain, Source
from ginseng.program.errors import ProgramError
from ginseng.program.model import Program, SealedTensor

__all__ = ["Measurements", "extend", "measure"]


def extend(pcr: bytes, kind: EventType, handle: int, data: bytes) -> bytes:
    """Return ``pcr`` extended with one event (`ginseng.isa.formats.event_header`)."""
    inner = hashlib.sha256(event_header(kind, handle, len(data)) + data).digest()
    return hashlib.sha256(pcr + inner).digest()


@dataclass(frozen=True)
class Measurements:
    """Reference values of one program in one setting.

    Attributes
    ----------
    locked : tuple of bytes
        PCR0 to PCR7 just after LOCK and before any sealed import.
    final : tuple of bytes
        The same once every sealed measured tensor was imported.

    """

    locked: tuple[bytes, ...]
    final: tuple[bytes, ...]


def measure(
    program: Program,
    *,
    commitments: Mapping[int, bytes],
    max_runs: int,
    monitor_rom: bytes,
) -> Measurements:
    """Compute what a genuine device will report for ``program``.

    Parameters
    ----------
    program : Program
        Sealed: with its weights in the clear, nobody could have shown it to the device.
    commitments : mapping of int to bytes
        Published commitment of each slot that the program names, 32 bytes.
    max_runs : int
        The limit agreed for the session.
    monitor_rom : bytes
        SHA-256 of the monitor ROM of the build.

    Raises
    ------
    ProgramError
        If the program is not sealed, or commitments do not fit its slots.

    """
    if not program.is_sealed:
        raise ProgramError(
            f"Program {program.name} still holds weights in the clear; seal it first"
        )
    uses = {slot.slot: slot.use for slot in program.slots}
    if set(uses) != set(commitments):
        raise ProgramError(
            f"Program {program.name} needs commitments of slots {sorted(uses)}, "
            f"not {sorted(commitments)}"
        )
    pcrs = [bytes(PCR_BYTES)] * PCR_COUNT

    def event(pcr: Pcr, kind: EventType, handle: int, data: bytes) -> None:
        pcrs[pcr] = extend(pcrs[pcr], kind, handle, data)

    event(Pcr.CONFIGURATION, EventType.CONFIGURATION, 0, program.config.digest)
    event(Pcr.MONITOR, EventType.MONITOR, 0, monitor_rom)
    for tensor in program.tensors:
        event(Pcr.TABLE, EventType.ROW, tensor.handle, tensor.row())
    entry = program.by_name[program.entry]
    event(Pcr.TABLE, EventType.LOCK, entry.handle, max_runs.to_bytes(8, "big"))
    for tensor in program.tensors:
        content = program.contents.get(tensor.name)
        if tensor.is_imported and tensor.source is Source.PLAIN:
            register = Pcr.PROGRAM if tensor.domain is Domain.PROGRAM else Pcr.WEIGHTS
            assert isinstance(content, bytes)  # Program seals only Source.SEALED
            event(register, EventType.PLAIN_IMPORT, tensor.handle, content)
    for slot in range(1, KEY_SLOTS):
        use = int(uses.get(slot, 0))
        commitment = commitments.get(slot, bytes(COMMITMENT_BYTES))
        if len(commitment) != COMMITMENT_BYTES:
            raise ProgramError(f"The commitment of slot {slot} has {COMMITMENT_BYTES} bytes")
        event(Pcr.SLOTS, EventType.SLOT, slot, bytes([use]) + commitment)
    locked = tuple(pcrs)
    for tensor in program.tensors:
        content = program.contents.get(tensor.name)
        if tensor.is_imported and isinstance(content, SealedTensor):
            event(Pcr.WEIGHTS, EventType.SEALED_IMPORT, tensor.handle, content.data)
    return Measurements(locked, tuple(pcrs))
