"""Where a program's tensors stand in a board's DRAM, and moving ciphertext there and back."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import numpy as np

from ginseng.driver.board import Board, Buffer
from ginseng.program import Program, SealedTensor, TensorSpec
from ginseng.secureos.errors import MessageError

__all__ = ["Placement"]


class Placement:
    """One DRAM buffer for each tensor of a program.

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
                self._buffers[tensor.name] = board.allocate(tensor.sealed_bytes)
        except BaseException:
            self.free()
            raise

    def __getitem__(self, name: str) -> int:
        """Return the device address of a tensor."""
        return self._buffers[name].address

    def row(self, tensor: TensorSpec) -> bytes:
        """Return the tensor's row of the table, with its place."""
        return tensor.row(base=self[tensor.name])

    def put(self, name: str, sealed: SealedTensor) -> None:
        """Write a sealed tensor.

        Raises
        ------
        MessageError
            If it has another size.

        """
        wanted = self._tensors[name].sealed_bytes
        if len(sealed.data) != wanted:
            raise MessageError(
                f"Tensor {name} takes {wanted} bytes with its tags, not {len(sealed.data)}"
            )
        _write(self._buffers[name], sealed.data)

    def get(self, name: str) -> SealedTensor:
        """Read a sealed tensor."""
        nbytes = self._tensors[name].sealed_bytes
        return SealedTensor(self._buffers[name].view[:nbytes].tobytes())

    @contextmanager
    def staged(self, content: bytes | SealedTensor) -> Iterator[int]:
        """Put what IMPORT shall read beside every tensor, for the time of the command.

        Gives its device address.
        """
        data = content if isinstance(content, bytes) else content.data
        buffer = self._board.allocate(len(data))
        try:
            _write(buffer, data)
            yield buffer.address
        finally:
            self._board.free(buffer)

    def free(self) -> None:
        """Give every buffer back; twice is fine."""
        buffers, self._buffers = self._buffers, {}
        for buffer in buffers.values():
            self._board.free(buffer)


def _write(buffer: Buffer, data: bytes) -> None:
    buffer.view[: len(data)] = np.frombuffer(data, np.uint8)
