"""The monitor's commands as Python calls."""

from collections.abc import Mapping

from ginseng.driver.board import Board, read_register
from ginseng.driver.errors import CommandRefusedError, DeviceFatalError
from ginseng.isa.codec import Codec, Value
from ginseng.isa.mailbox import COMMANDS, Command, Refusal, State
from ginseng.isa.registers import CommandWord, StatusWord, register_map
from ginseng.isa.table import SlotUse

__all__ = ["Monitor"]

_STATUS = Codec(StatusWord)
_COMMAND = Codec(CommandWord)


class Monitor:
    """Mailbox client of one protected board.

    Parameters
    ----------
    board : Board
    timeout : float
        Seconds that a command may take; RUN has its own.

    Raises
    ------
    CommandRefusedError
        From any command: the monitor refused it, nothing changed.
    DeviceFatalError
        From any command: the device is in FATAL.
    DeviceTimeoutError
        From any command: no answer in time.

    """

    def __init__(self, board: Board, *, timeout: float = 60.0) -> None:
        self._board = board
        self._map = register_map(board.config)
        self._timeout = timeout

    @property
    def state(self) -> State:
        """Where the session stands; an unlisted encoding is FATAL."""
        value = self._status()["state"]
        return State(value) if value in State.__members__.values() else State.FATAL

    def begin(self) -> bytes:
        """Open a session; return its public key x ‖ y, 64 bytes."""
        return self._call(Command.BEGIN)

    def slot(self, slot: int, use: SlotUse, commitment: bytes) -> None:
        """Commit a slot; before any row names it."""
        self._call(Command.SLOT, slot=slot, use=int(use), commitment=commitment)

    def row(self, handle: int, row: bytes) -> None:
        """Load one row of the tensor table."""
        self._send(Command.ROW, handle.to_bytes(2, "little") + row)

    def import_tensor(self, handle: int, source: int) -> None:
        """Measure a tensor and re-seal it at its place."""
        self._call(Command.IMPORT, handle=handle, source=source)

    def lock(self, entry: int, max_runs: int) -> None:
        """Fix table, slots, program and run limit."""
        self._call(Command.LOCK, entry=entry, max_runs=max_runs)

    def quote(self, nonce: bytes) -> bytes:
        """Return a COSE_Sign1 quote over ``nonce``."""
        return self._call(Command.QUOTE, nonce=nonce)

    def load_key(self, enc: bytes, ciphertext: bytes) -> None:
        """Pass an owner's HPKE message on."""
        self._call(Command.LOADKEY, enc=enc, ciphertext=ciphertext)

    def run(self, *, timeout: float | None = None) -> None:
        """Run the entry program once."""
        self._send(Command.RUN, b"", timeout=timeout)

    def end(self) -> None:
        """Close the session; every key is zeroized."""
        self._call(Command.END)

    def reset(self) -> None:
        """Reset the device fully; the way out of FATAL."""
        self._board.write(self._map["reset"].offset, 1)
        self._board.wait(lambda: self.state is State.IDLE, timeout=self._timeout)

    def _call(self, command: Command, **fields: Value) -> bytes:
        codec = COMMANDS[command].argument
        return self._send(command, codec.pack(**fields) if codec else b"")

    def _send(self, command: Command, argument: bytes, *, timeout: float | None = None) -> bytes:
        window = self._map["argument"].offset
        padded = argument + bytes(-len(argument) % 4)
        for at in range(0, len(padded), 4):
            self._board.write(window + at, int.from_bytes(padded[at : at + 4], "little"))
        word = _COMMAND.pack(command=int(command), length=len(argument))
        self._board.write(self._map["command"].offset, int.from_bytes(word, "little"))
        self._board.wait(
            lambda: not self._status()["busy"],
            timeout=self._timeout if timeout is None else timeout,
        )
        status = self._status()
        if status["state"] == State.FATAL:
            raise DeviceFatalError(
                f"The device went FATAL in {command.name}; reset it and open a new session"
            )
        if status["refusal"]:
            raise CommandRefusedError(command, Refusal(status["refusal"]))
        offset, size = self._map["result"].offset, status["result_length"]
        words = (self._board.read(offset + at) for at in range(0, size, 4))
        return b"".join(word.to_bytes(4, "little") for word in words)[:size]

    def _status(self) -> Mapping[str, int]:
        return _STATUS.unpack(read_register(self._board, "status").to_bytes(4, "little"))
