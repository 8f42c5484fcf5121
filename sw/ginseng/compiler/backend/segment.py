"""Contiguous areas of DRAM, and how a program reads and writes them."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

import numpy as np
from numpy.typing import NDArray

__all__ = ["Access", "Role", "Segment", "runs"]


class Role(Enum):
    """What a segment is for; segments of one row of the tensor table share it."""

    PROGRAM = "program"
    UOPS = "uops"
    WEIGHTS = "weights"
    BIASES = "biases"
    INPUT = "input"
    SCRATCH = "scratch"
    OUTPUT = "output"


@dataclass(frozen=True, slots=True)
class Access:
    """One transfer, in bytes from the start of its segment."""

    begin: int
    rows: int
    row_bytes: int
    stride: int

    @property
    def nbytes(self) -> int:
        """Bytes that it moves."""
        return self.rows * self.row_bytes


@dataclass(eq=False, slots=True)
class Segment:
    """A contiguous area: one layer's weights, one activation, the instructions.

    Attributes
    ----------
    name : str
    role : Role
    length : int
        Bytes.
    data : bytes or None
        What it holds before a run; None for activations.
    chunk : int
        Bytes of a chunk; 0 until chosen.
    reads, writes : list of Access
        Every transfer of the program, in stream order.

    """

    name: str
    role: Role
    length: int
    data: bytes | None = field(default=None, repr=False)
    chunk: int = 0
    reads: list[Access] = field(default_factory=list, repr=False)
    writes: list[Access] = field(default_factory=list, repr=False)


def runs(accesses: Iterable[Access]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return begin and end of every contiguous run; rows that touch are one run."""
    begins: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
    lengths: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
    for access in accesses:
        if access.stride == access.row_bytes or access.rows == 1:
            begins.append(np.array([access.begin], np.int64))
            lengths.append(np.array([access.nbytes], np.int64))
        else:
            begins.append(access.begin + access.stride * np.arange(access.rows, dtype=np.int64))
            lengths.append(np.full(access.rows, access.row_bytes, np.int64))
    begin = np.concatenate(begins)
    return begin, begin + np.concatenate(lengths)
