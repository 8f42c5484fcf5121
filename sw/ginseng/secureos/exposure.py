"""What a program exposes: who can read its exports, and what makes it unfit for several owners."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ginseng.isa.legality import check_program as find_faults
from ginseng.isa.table import Domain
from ginseng.program import Program
from ginseng.secureos.errors import QuoteRefusedError

__all__ = ["ExportReader", "check_program", "export_readers"]


@dataclass(frozen=True, kw_only=True)
class ExportReader:
    """Whoever made ``commitment`` can read ``tensor``; the names are the program's, unproved."""

    tensor: str
    slot: int
    owner: str
    commitment: bytes

    @property
    def document(self) -> dict[str, Any]:
        """As a JSON object."""
        return {
            "tensor": self.tensor,
            "slot": self.slot,
            "owner": self.owner,
            "commitment": self.commitment.hex(),
        }


def export_readers(program: Program, commitments: Mapping[int, bytes]) -> tuple[ExportReader, ...]:
    """Return who can read each export; every export is deemed to hold every owner's data."""
    owners = {slot.slot: slot.owner for slot in program.slots}
    return tuple(
        ExportReader(
            tensor=tensor.name,
            slot=tensor.slot,
            owner=owners[tensor.slot],
            commitment=commitments[tensor.slot],
        )
        for tensor in program.tensors
        if tensor.domain is Domain.EXPORT
    )


def check_program(program: Program) -> None:
    """Refuse a program that an owner should not let near its data.

    Raises
    ------
    QuoteRefusedError
        With claim ``table`` if weights are unmeasured while there are several owners: the
        weights' owner could then serve other weights than others agreed to (TEC specification
        §1). With claim ``program`` if it breaks a rule of VTA specification §11.

    """
    # SEC: VERIFY.MEASURED_WEIGHTS -- unmeasured weights can differ from read to read.
    if len({slot.owner for slot in program.slots}) > 1:
        for tensor in program.tensors:
            if tensor.domain is Domain.WEIGHTS and not tensor.measured:
                raise QuoteRefusedError(
                    "table",
                    f"weights {tensor.name} are not measured, but the program has several "
                    "owners; compile it with measured weights",
                )
    programs = {
        tensor.handle: content
        for tensor in program.tensors
        if tensor.domain is Domain.PROGRAM
        and isinstance(content := program.contents[tensor.name], bytes)
    }
    entry = programs.get(program.by_name[program.entry].handle)
    if entry is None:
        raise QuoteRefusedError("program", f"its entry {program.entry} is no program")
    faults = find_faults(entry, program.config, tensors=program.tensors, contents=programs)
    if faults:
        more = f", and {len(faults) - 1} more" if len(faults) > 1 else ""
        raise QuoteRefusedError("program", f"it is not legal: {faults[0]}{more}")
