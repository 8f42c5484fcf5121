"""Running bare VTA programs: the plain control registers as one Python call."""

from typing import Final

from ginseng.driver.board import Board, read_register, write_register
from ginseng.driver.errors import BoardError, ProgramFaultError
from ginseng.isa.codec import Codec
from ginseng.isa.registers import COUNTERS, ControlWord

__all__ = ["BareDriver", "read_counters"]

_CONTROL: Final = Codec(ControlWord)


def read_counters(board: Board) -> dict[str, int]:
    """Return every counter of the last run by name."""
    return {name: read_register(board, name) for name in COUNTERS}


class BareDriver:
    """Driver of a board without TEC (VTA specification §10).

    Parameters
    ----------
    board : Board
        Whose ``config.tec`` is None.

    Raises
    ------
    BoardError
        If the build is protected: it has no such registers.

    """

    def __init__(self, board: Board) -> None:
        if board.config.tec is not None:
            raise BoardError(
                f"Board {board.name} is a protected build, which runs no plain programs; "
                "open it with SystemConfig(tec=None)"
            )
        self._board = board

    def run(
        self,
        insn_addr: int,
        insn_count: int,
        *,
        uop_base: int = 0,
        inp_base: int = 0,
        wgt_base: int = 0,
        acc_base: int = 0,
        out_base: int = 0,
        timeout: float = 60.0,
    ) -> int:
        """Run the program at ``insn_addr`` to its FINISH and return the cycles it took.

        Parameters
        ----------
        insn_addr : int
            Byte address of the first instruction.
        insn_count : int
            Instructions, FINISH included.
        uop_base, inp_base, wgt_base, acc_base, out_base : int
            Added to the byte addresses of each memory type.
        timeout : float
            Seconds.

        Raises
        ------
        ProgramFaultError
            If the program did what no program may, or an earlier one did: `reset` leaves that.
        DeviceTimeoutError
            If it does not finish in time; `reset` the device then.

        """
        registers = {
            "insn_addr": insn_addr,
            "insn_count": insn_count,
            "uop_base": uop_base,
            "inp_base": inp_base,
            "wgt_base": wgt_base,
            "acc_base": acc_base,
            "out_base": out_base,
        }
        for name, value in registers.items():
            write_register(self._board, name, value)
        self._write_control(launch=1)
        self._board.wait(self._is_over, timeout=timeout)
        if self._control()["fault"]:
            raise ProgramFaultError(
                f"The program at {insn_addr:#x} broke a rule of the core, or an earlier one did; "
                "reset the device, and check the program"
            )
        return read_register(self._board, "cycles")

    def reset(self) -> None:
        """Reset the device; the way out of a fault and of a program that never ends."""
        write_register(self._board, "reset", 1)

    def _is_over(self) -> bool:
        control = self._control()
        return bool(control["done"] or control["fault"])

    def _control(self) -> dict[str, int]:
        word = read_register(self._board, "control")
        return _CONTROL.unpack(word.to_bytes(4, "little")[: _CONTROL.nbytes])

    def _write_control(self, **fields: int) -> None:
        word = _CONTROL.pack(**fields)
        write_register(self._board, "control", int.from_bytes(word, "little"))
