"""Where a program's tensors stand in a board's DRAM, and moving ciphertext there and back."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import numpy as np

from ginseng.driver.board import Board, Buffer
from ginseng.isa.table import BASE_ALIGNMENT
from ginseng.program import Program, SealedTensor, TensorSpec
from ginseng.secureos.errors import MessageError

__all__ = ["Place", "Placement"]


def _tags_at(nbytes: int) -> int:
    """Offset of the tags behind ``nbytes`` of data."""
    return -(-nbytes // BASE_ALIGNMENT) * BASE_ALIGNMENT


@dataclass(frozen=True)
class Place:
    """Where one tensor stands: device addresses of its data and its tags, in bytes."""

    base: int
    tag_base: int


class Placement:
    """One DRAM buffer for each tensor of a program, its tags behind it.

    Parameters
    ----------
    board : Board
        Whose DRAM is allocated; all or nothing.
    program : Program
        Whose tensors need a place.

    Raises
    ------
    BoardError
        If the tensors do not fit.

    """

    def __init__(self, board: Board, program: Program) -> None:
        self._board: Final = board
        self._tensors: Final = program.by_name
        self._buffers: dict[str, Buffer] = {}
        try:
            for tensor in program.tensors:
                nbytes = _tags_at(tensor.length) + tensor.tag_bytes
                self._buffers[tensor.name] = board.allocate(nbytes)
        except BaseException:
            self.free()
            raise

    def __getitem__(self, name: str) -> Place:
        base = self._buffers[name].address
        return Place(base, base + _tags_at(self._tensors[name].length))

    def row(self, tensor: TensorSpec) -> bytes:
        """Return the tensor's row of the table, with its place."""
        place = self[tensor.name]
        return tensor.row(base=place.base, tag_base=place.tag_base)

    def put(self, name: str, sealed: SealedTensor) -> None:
        """Write a tensor's ciphertext and tags.

        Raises
        ------
        MessageError
            If they have another size.

        """
        tensor = self._tensors[name]
        if (len(sealed.ciphertext), len(sealed.tags)) != (tensor.length, tensor.tag_bytes):
            raise MessageError(
                f"Tensor {name} is {tensor.length} bytes and {tensor.tag_bytes} bytes of tags, "
                f"not {len(sealed.ciphertext)} and {len(sealed.tags)}"
            )
        _write(self._buffers[name], sealed.ciphertext, sealed.tags)

    def get(self, name: str) -> SealedTensor:
        """Read a tensor's ciphertext and tags."""
        tensor, view = self._tensors[name], self._buffers[name].view
        tags = _tags_at(tensor.length)
        return SealedTensor(
            view[: tensor.length].tobytes(), view[tags : tags + tensor.tag_bytes].tobytes()
        )

    @contextmanager
    def staged(self, content: bytes | SealedTensor) -> Iterator[Place]:
        """Put what IMPORT shall read beside every tensor, for the time of the command."""
        data, tags = (
            (content, b"") if isinstance(content, bytes) else (content.ciphertext, content.tags)
        )
        buffer = self._board.allocate(_tags_at(len(data)) + len(tags))
        try:
            _write(buffer, data, tags)
            tag_base = buffer.address + _tags_at(len(data)) if tags else 0
            yield Place(buffer.address, tag_base)
        finally:
            self._board.free(buffer)

    def free(self) -> None:
        """Give every buffer back; twice is fine."""
        buffers, self._buffers = self._buffers, {}
        for buffer in buffers.values():
            self._board.free(buffer)


def _write(buffer: Buffer, data: bytes, tags: bytes) -> None:
    at = _tags_at(len(data))
    buffer.view[: len(data)] = np.frombuffer(data, np.uint8)
    buffer.view[at : at + len(tags)] = np.frombuffer(tags, np.uint8)
