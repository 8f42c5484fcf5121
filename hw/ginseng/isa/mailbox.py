"""Commands of the monitor: arguments, results and refusals (monitor specification §3).

Numbers are little-endian, byte strings stand as they are. Every command has one fixed argument
length; the length written with the command must equal it.
"""

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from amaranth import unsigned
from amaranth.lib import data, enum

from ginseng.isa.codec import Codec
from ginseng.isa.table import TensorRow

__all__ = [
    "COMMANDS",
    "Cause",
    "Command",
    "CommandSpec",
    "EventType",
    "ImportArgument",
    "LoadKeyArgument",
    "LoadKeyPlaintext",
    "LockArgument",
    "QuoteArgument",
    "Refusal",
    "RowArgument",
    "SlotArgument",
    "State",
]


def _bytes(count: int) -> data.ArrayLayout:
    return data.ArrayLayout(unsigned(8), count)


class State(enum.IntEnum, shape=4):
    """Where the session stands. Any value that is not listed is FATAL."""

    BOOT = 1
    IDLE = 2
    CONFIG = 3
    LOCKED = 4
    RUN = 5
    FATAL = 15


class Command(enum.IntEnum, shape=8):
    """What the host may ask."""

    BEGIN = 1
    ROW = 2
    SLOT = 3
    IMPORT = 4
    LOCK = 5
    QUOTE = 6
    LOADKEY = 7
    RUN = 8
    END = 9


class Refusal(enum.IntEnum, shape=8):
    """Why a command was refused; a refused command changed nothing.

    From ``ROW_DOMAIN`` on: which rule of the tensor table (TEC specification §3) a row breaks,
    checked in this order.
    """

    NONE = 0
    UNKNOWN_COMMAND = 1
    WRONG_STATE = 2
    WRONG_LENGTH = 3
    #: An argument out of its range, for which no other value stands.
    ILLEGAL_ARGUMENT = 4
    #: SLOT: slot 0, no use or both uses.
    SLOT_USE = 5
    #: SLOT: given before in this session.
    SLOT_TAKEN = 6
    #: IMPORT: no such row, not one that is imported, or not in this state.
    IMPORT_ROW = 7
    #: IMPORT: done before, or a row with a higher handle was imported before.
    IMPORT_ORDER = 8
    #: IMPORT: the source is not aligned as a row's, leaves the DRAM window or overlaps a row.
    IMPORT_SOURCE = 9
    #: IMPORT: the slot that opens the source has no key.
    IMPORT_KEY = 10
    #: LOCK: the entry is not the imported X row.
    LOCK_ENTRY = 11
    #: LOCK: ``max_runs`` is zero.
    LOCK_RUNS = 12
    #: LOCK: a plain measured row was not imported.
    LOCK_IMPORT = 13
    #: LOADKEY: the message does not open, or not for this slot and commitment.
    KEY_REFUSED = 14
    #: LOADKEY: slot 0, never committed, or loaded before.
    KEY_SLOT = 15
    #: RUN: a slot named by a row has no key.
    RUN_KEY = 16
    #: RUN: a measured row was not imported.
    RUN_IMPORT = 17
    #: RUN: ``max_runs`` were done.
    RUN_LIMIT = 18

    ROW_HANDLE = 32
    ROW_DUPLICATE = 33
    ROW_RESERVED = 34
    ROW_DOMAIN = 35
    ROW_PERMISSIONS = 36
    ROW_MEASURED = 37
    ROW_SOURCE = 38
    ROW_SLOT = 39
    ROW_VERSION = 40
    ROW_LENGTH = 41
    ROW_CHUNK = 42
    ROW_ALIGNMENT = 43
    ROW_WINDOW = 44
    ROW_OVERLAP = 45
    ROW_ENTRY = 46
    ROW_BITMAP = 47


class Cause(enum.IntEnum, shape=8):
    """What the device was doing when it went FATAL; a debug build's ``cause`` register."""

    NONE = 0
    #: A known answer came out wrong.
    SELF_TEST = 1
    #: An illegal step of the ladder, or a root that the build does not have.
    LADDER = 2
    #: A health test failed, or keys were asked of a DRBG without seed.
    ENTROPY = 3
    #: A source did not verify, or could not be read.
    IMPORT = 4
    #: A fault of TEC specification §7.
    RUN = 5
    #: An illegal internal encoding.
    INTERNAL = 6


class RowArgument(data.Struct):
    """ROW: one row of the tensor table."""

    handle: 16
    row: TensorRow


class SlotArgument(data.Struct):
    """SLOT: the commitment of whoever will load the slot's key."""

    slot: 8
    use: 8
    commitment: _bytes(32)


class ImportArgument(data.Struct):
    """IMPORT: where the host put the bytes; of a sealed source as they stand in place."""

    handle: 16
    source: 40


class LockArgument(data.Struct):
    """LOCK: which program runs, and how often at most."""

    entry: 16
    max_runs: 48


class QuoteArgument(data.Struct):
    """QUOTE: the verifier's challenge."""

    nonce: _bytes(32)


class LoadKeyArgument(data.Struct):
    """LOADKEY: an HPKE message: the encapsulated P-256 point, then `LoadKeyPlaintext` sealed."""

    enc: _bytes(65)
    ciphertext: _bytes(1 + 32 + 32 + 16)


class LoadKeyPlaintext(data.Struct):
    """What the message of LOADKEY opens to."""

    slot: 8
    secret: _bytes(32)
    blinding: _bytes(32)


class EventType(enum.IntEnum, shape=8):
    """First byte of what a measurement register is extended with (monitor specification §2)."""

    CONFIGURATION = 1
    MONITOR = 2
    ROW = 3
    LOCK = 4
    PLAIN_IMPORT = 5
    SEALED_IMPORT = 6
    RUN = 7
    SLOT = 8


@dataclass(frozen=True)
class CommandSpec:
    """Argument layout of one command and the states that take it."""

    argument: Codec | None
    states: frozenset[State]

    @property
    def length(self) -> int:
        """Bytes of the argument."""
        return 0 if self.argument is None else self.argument.nbytes


def _spec(argument: type[data.Struct] | None, *states: State) -> CommandSpec:
    return CommandSpec(None if argument is None else Codec(argument), frozenset(states))


#: Every command. RUN itself is busy, not a state in which commands are taken.
COMMANDS: Final = MappingProxyType(
    {
        Command.BEGIN: _spec(None, State.IDLE),
        Command.ROW: _spec(RowArgument, State.CONFIG),
        Command.SLOT: _spec(SlotArgument, State.CONFIG),
        Command.IMPORT: _spec(ImportArgument, State.CONFIG, State.LOCKED),
        Command.LOCK: _spec(LockArgument, State.CONFIG),
        Command.QUOTE: _spec(QuoteArgument, State.LOCKED),
        Command.LOADKEY: _spec(LoadKeyArgument, State.LOCKED),
        Command.RUN: _spec(None, State.LOCKED),
        Command.END: _spec(None, State.CONFIG, State.LOCKED),
    }
)
