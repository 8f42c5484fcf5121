"""Commands of the monitor: what may happen to the table, the keys and the versions, and when."""

from dataclasses import dataclass
from typing import Any, Final

from amaranth import Signal
from amaranth.lib import data, enum, stream, wiring
from amaranth.lib.wiring import In, Out

from ginseng.crypto.aes import AesConfig, RoundKey
from ginseng.isa.mailbox import Refusal, State
from ginseng.isa.table import KEY_SLOTS
from ginseng.tec.shapes import TableLookup, TecShapes

__all__ = ["Control", "ControlCommand", "ControlOp", "ImportPort", "Limits"]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Counters' ends (TEC specification §3, §4); a test lowers them to reach them.

    Attributes
    ----------
    epochs : int
        Greatest version in a nonce: epochs and run numbers.
    blocks : int
        16-byte blocks encrypted under one key.

    """

    epochs: int = (1 << 48) - 1
    blocks: int = 1 << 40


class ControlOp(enum.Enum, shape=3):
    """What the monitor asks."""

    BEGIN = 0
    SLOT = 1
    ROW = 2
    KEY = 3
    IMPORT = 4
    LOCK = 5
    RUN = 6
    FINISH = 7


class ControlCommand(data.Struct):
    """One command.

    ``check``
        Only ask: answer as the command would be answered, and change nothing.
    ``handle``
        ROW, IMPORT, and LOCK: of the entry.
    ``slot``, ``use``
        SLOT; KEY has the slot only.
    ``row``
        ROW: a `ginseng.isa.table.TensorRow`. BEGIN, KEY: the key in the low bits, byte 0 in bits
        7:0. IMPORT: a row of which ``base`` and ``tag_base`` say where the source and its tags
        are. RUN: a row of which ``version`` is the number of the run.
    """

    op: ControlOp
    check: 1
    handle: 16
    slot: 8
    use: 8
    row: 256


class ImportPort(wiring.Signature):
    """Has a tensor put in place; members as the control sees them.

    ``valid``
        High until ``done``; all the rest stays the same.
    ``handle``, ``entry``
        The row: ``entry.slot`` is that of K_mem, ``entry.version`` that of a sealed source.
    ``sealed``, ``slot``
        The source is sealed, under the key of this slot.
    ``source``, ``source_tags``
        From the start of the window, in bytes.
    ``epoch``
        Version of the tensor in place.
    ``done``
        All of it is there, verified, and every response came; for one cycle.
    """

    def __init__(self, shapes: TecShapes) -> None:
        super().__init__(
            {
                "valid": Out(1),
                "handle": Out(shapes.tec.handle_bits),
                "entry": Out(shapes.entry),
                "sealed": Out(1),
                "slot": Out(range(KEY_SLOTS)),
                "source": Out(shapes.position_bits),
                "source_tags": Out(shapes.position_bits),
                "epoch": Out(48),
                "done": In(1),
            }
        )


class Control(wiring.Component):
    """Table, written bitmap, key slots and versions of a session, under the monitor's commands.

    A command is taken at once if none is under way, and answered some cycles later. After a fault,
    and while ``stop``, none is taken or answered, and the state is FATAL.

    Parameters
    ----------
    shapes : TecShapes
    limits : Limits

    """

    #: In: `ControlCommand`.
    command: stream.Interface
    #: Out: a command is answered.
    answer_valid: Signal
    #: Out: why it was refused, or NONE.
    answer: Any
    #: Out: where the session stands.
    state: Any
    #: Out: a run is under way; without one ``lookup`` gives anything.
    running: Signal
    #: In: rows for the planner.
    lookup: Any
    #: In: ``{bit}``, is this chunk of a W row readable?
    test: stream.Interface
    #: Out: two cycles after: yes or no, in order.
    test_valid: Signal
    test_readable: Signal
    #: In: ``{bit, export}``, this chunk of a W row is about to be written.
    begin: stream.Interface
    #: Out: two cycles after: it was not written before. If it was, that is a fault too.
    begin_valid: Signal
    begin_fresh: Signal
    #: In: the oldest chunk that was begun is there, every response came.
    finish: Signal
    #: In: ``{slot, blocks}``, a chunk of so many blocks is about to be encrypted.
    seal: stream.Interface
    #: Out: two cycles after: it may be. If it may not, that is a fault too.
    seal_valid: Signal
    seal_ok: Signal
    #: Out: the tensor that is to be imported.
    importing: Any
    #: In: a chunk is written in part.
    open_chunk: Signal
    #: Out: to the lanes.
    round_key: Any
    #: Out: ``{slot}``, whose round keys stand: its hash key can be computed.
    hash_key: stream.Interface
    #: In: there was a fault somewhere.
    stop: Signal
    #: Out: there was one here.
    fault: Signal
    #: In: for one cycle: forget everything. Without a fault, a new session may begin after it.
    wipe: Signal
    #: Out: every key, row, bit and count is zero, or was since.
    wiped: Signal

    def __init__(self, shapes: TecShapes, limits: Limits | None = None) -> None:
        self.shapes: Final = shapes
        self.limits: Final = limits or Limits()
        bit = range(shapes.tec.bitmap_bits)
        slot = range(KEY_SLOTS)
        aes = AesConfig(key_bits=shapes.tec.key_bits, stages=1, slots=KEY_SLOTS)
        blocks = shapes.chunk_bits - 4
        super().__init__(
            {
                "command": In(stream.Signature(ControlCommand)),
                "answer_valid": Out(1),
                "answer": Out(Refusal),
                "state": Out(State, init=State.BOOT),
                "running": Out(1),
                "lookup": In(TableLookup(shapes)),
                "test": In(stream.Signature(data.StructLayout({"bit": bit}))),
                "test_valid": Out(1),
                "test_readable": Out(1),
                "begin": In(stream.Signature(data.StructLayout({"bit": bit, "export": 1}))),
                "begin_valid": Out(1),
                "begin_fresh": Out(1),
                "finish": In(1),
                "seal": In(stream.Signature(data.StructLayout({"slot": slot, "blocks": blocks}))),
                "seal_valid": Out(1),
                "seal_ok": Out(1),
                "importing": Out(ImportPort(shapes)),
                "open_chunk": In(1),
                "round_key": Out(RoundKey(aes)),
                "hash_key": Out(stream.Signature(data.StructLayout({"slot": slot}))),
                "stop": In(1),
                "fault": Out(1),
                "wipe": In(1),
                "wiped": Out(1),
            }
        )

    def elaborate(self, platform):
        raise NotImplementedError("The ports stand, the gates come next")
