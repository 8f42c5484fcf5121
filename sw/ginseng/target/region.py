"""One region at run time: a protected session on a board, called by TVM's virtual machine."""

from contextlib import ExitStack
from typing import Any, Final

import numpy as np

from ginseng.compiler import CompiledModel
from ginseng.driver import open_board
from ginseng.secureos import LocalSession, local_session

__all__ = ["Region", "close_regions", "keep_region"]


class Region:
    """Runs one program when it is called with tensors: its inputs, then its outputs.

    Board and session are opened at the first call and stay open until `close`.

    Parameters
    ----------
    compiled : CompiledModel
        Program, and the integers that it computes.
    board : str
        As `ginseng.driver.open_board` names it.

    Attributes
    ----------
    compiled : CompiledModel
    runs : int
        How often it was called.

    """

    def __init__(self, compiled: CompiledModel, board: str) -> None:
        self.compiled: Final = compiled
        self.runs = 0
        self._board: Final = board
        self._open = ExitStack()
        self._session: LocalSession | None = None

    def __call__(self, *tensors: Any) -> None:
        """Read the inputs, run, write the outputs in place.

        Raises
        ------
        DriverError, SecureOsError
            If the board or a party of the session finds something wrong.

        """
        program = self.compiled.program
        if self._session is None:
            board = self._open.enter_context(open_board(self._board, config=program.config))
            self._session = self._open.enter_context(local_session(board, program))
        arrays = [np.asarray(np.from_dlpack(tensor), np.float32) for tensor in tensors]
        inputs = {p.name: array for p, array in zip(program.inputs, arrays, strict=False)}
        results = self._session.infer(inputs)
        named = results if isinstance(results, dict) else {program.outputs[0].name: results}
        for port, tensor in zip(program.outputs, tensors[len(program.inputs) :], strict=True):
            tensor.copyfrom(named[port.name])
        self.runs += 1

    def close(self) -> None:
        """End the session and close the board; the next call opens them again."""
        self._session = None
        self._open.close()


_REGIONS: Final[dict[str, Region]] = {}


def keep_region(symbol: str, region: Region) -> None:
    """Remember what runs ``symbol``; what ran it before is closed."""
    if symbol in _REGIONS:
        _REGIONS[symbol].close()
    _REGIONS[symbol] = region


def close_regions() -> tuple[Region, ...]:
    """Close the session and the board of every region of this process, and return them."""
    for region in _REGIONS.values():
        region.close()
    return tuple(_REGIONS.values())
