"""Commands of the monitor: what may happen to the table, the keys and the versions, and when."""

from typing import Any, Final

from amaranth import Module, Mux, ResetInserter, Signal
from amaranth.lib import data, enum, stream, wiring
from amaranth.lib.wiring import In, Out

from ginseng.isa.mailbox import Refusal, State
from ginseng.isa.table import K_MEM, KEY_SLOTS, Limits, TensorRow
from ginseng.tec.bitmap import Bitmap
from ginseng.tec.keys import KeySlots
from ginseng.tec.shapes import VERSION_BITS, TableLookup, TecShapes
from ginseng.tec.table import Table, TableOp

__all__ = ["Control", "ControlCommand", "ControlOp", "ImportPort"]


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
        ROW: itself. BEGIN, KEY: the key in the low bits, byte 0 in bits 7:0. IMPORT: a row of which
        ``base`` says where the source is. RUN: a row of which
        ``version`` is the number of the run.
    """

    op: ControlOp
    check: 1
    handle: 16
    slot: 8
    use: 8
    row: TensorRow


class ImportPort(wiring.Signature):
    """Has a tensor put in place; members as the control sees them.

    ``valid``
        High until ``done``; all the rest stays the same.
    ``handle``, ``entry``
        The row: ``entry.slot`` is that of K_mem, ``entry.version`` that of a sealed source.
    ``sealed``, ``slot``
        The source is sealed, under the key of this slot.
    ``source``
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
                "epoch": Out(VERSION_BITS),
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
    #: Out: the slots that have a key.
    has_key: Signal
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
        super().__init__(
            {
                "command": In(stream.Signature(ControlCommand)),
                "answer_valid": Out(1),
                "answer": Out(Refusal),
                "state": Out(State, init=State.BOOT),  # type: ignore[call-arg]  # the stubs lack it
                "running": Out(1),
                "lookup": In(TableLookup(shapes)),
                **Bitmap.transfer_ports(shapes.tec.bitmap_bits),
                **KeySlots.transfer_ports(shapes),
                "importing": Out(ImportPort(shapes)),
                "has_key": Out(KEY_SLOTS),
                "open_chunk": In(1),
                "stop": In(1),
                "fault": Out(1),
                "wipe": In(1),
                "wiped": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()

        #: There was a fault; a wipe does not end that.
        dead, halted = Signal(), Signal()
        m.d.comb += halted.eq(dead | self.stop)
        # SEC: TEC.STICKY_FATAL
        with m.If(self.fault):
            m.d.sync += dead.eq(1)
        # SEC: TEC.ZEROIZE -- a wipe is a reset of all the rest.
        m.submodules.session = ResetInserter(self.wipe)(self._session(halted))

        return m

    def _session(self, halted: Signal) -> Module:
        """Return everything that a wipe forgets."""
        m = Module()

        m.submodules.table = table = Table(self.shapes)
        m.submodules.keys = keys = KeySlots(self.shapes, self.limits)
        m.submodules.bitmap = bitmap = Bitmap(self.shapes.tec.bitmap_bits)
        wiring.connect(m, wiring.flipped(self.lookup), table.lookup)
        wiring.connect(m, wiring.flipped(self.test), bitmap.test)
        wiring.connect(m, wiring.flipped(self.begin), bitmap.begin)
        wiring.connect(m, wiring.flipped(self.seal), keys.seal)
        wiring.connect(m, keys.round_key, wiring.flipped(self.round_key))
        wiring.connect(m, keys.hash_key, wiring.flipped(self.hash_key))

        #: The command under way and, apart from its row, a key: none ever is where rows are. It
        #: stays no longer than it must.
        held: Any = Signal(ControlCommand)
        key = Signal.like(keys.key)
        taken, forget, keyed = Signal(), Signal(), Signal()
        op = self.command.p.op
        others = [name for name, _ in ControlCommand.as_shape() if name != "row"]
        m.d.comb += [
            taken.eq(self.command.valid & self.command.ready),
            keyed.eq((op == ControlOp.BEGIN) | (op == ControlOp.KEY)),
        ]
        with m.If(forget):
            m.d.sync += [held.eq(0), key.eq(0)]
        with m.Elif(taken):
            m.d.sync += [held[name].eq(self.command.p[name]) for name in others]
            with m.If(keyed):
                m.d.sync += key.eq(self.command.p.row.as_value())
            with m.Else():
                m.d.sync += held.row.eq(self.command.p.row)

        state = Signal(State, init=State.BOOT)
        #: What was given last: to an import or a run, and to a run.
        epoch, run = Signal(VERSION_BITS), Signal(VERSION_BITS)
        #: The second operation of the table for one command.
        second = Signal()
        config, locked = state == State.CONFIG, state == State.LOCKED
        importing = self.importing
        m.d.comb += [
            self.state.eq(Mux(halted, State.FATAL, state)),
            self.running.eq(state == State.RUN),
            self.wiped.eq(table.wiped & keys.wiped & bitmap.clean),
            self.has_key.eq(keys.has_key),
            table.handle.eq(held.handle),
            table.row.eq(held.row),
            table.check.eq(held.check),
            table.epoch.eq(epoch),
            table.use.eq(keys.asked_use),
            table.locked.eq(locked),
            table.running.eq(self.running),
            table.exported.eq(bitmap.begin_valid & bitmap.begin_export),
            keys.slot.eq(Mux(held.op == ControlOp.BEGIN, K_MEM, held.slot)),
            keys.use.eq(held.use),
            keys.key.eq(key),
            keys.asked.eq(Mux(held.op == ControlOp.ROW, held.row.slot, table.slot)),
            bitmap.lowest.eq(table.free),
            bitmap.finish.eq(self.finish),
            self.test_valid.eq(bitmap.test_valid),
            self.test_readable.eq(bitmap.test_readable),
            self.begin_valid.eq(bitmap.begin_valid),
            self.begin_fresh.eq(bitmap.begin_fresh),
            self.seal_valid.eq(keys.seal_valid),
            self.seal_ok.eq(keys.seal_ok),
            importing.handle.eq(held.handle),
            importing.entry.eq(table.lookup.entry),
            importing.sealed.eq(table.sealed),
            importing.slot.eq(table.slot),
            importing.source.eq(table.source),
            importing.epoch.eq(epoch),
        ]
        with m.Switch(held.op):
            with m.Case(ControlOp.ROW):
                m.d.comb += table.op.eq(TableOp.LOAD)
            with m.Case(ControlOp.IMPORT):
                m.d.comb += table.op.eq(Mux(second, TableOp.PLACE, TableOp.IMPORT))
            with m.Case(ControlOp.LOCK):
                m.d.comb += table.op.eq(TableOp.LOCK)
            with m.Default():
                m.d.comb += table.op.eq(Mux(second, TableOp.START, TableOp.RUN))

        # SEC: TEC.WRITTEN_BITMAP
        # SEC: TEC.BLOCK_LIMIT
        with m.If((bitmap.begin_valid & ~bitmap.begin_fresh) | (keys.seal_valid & ~keys.seal_ok)):
            m.d.comb += self.fault.eq(1)
        with m.Switch(state):
            with m.Case(*(s for s in State if s is not State.FATAL)):
                pass
            with m.Default():
                m.d.comb += self.fault.eq(1)

        def answer(refusal: Any) -> None:
            m.d.sync += self.answer.eq(refusal)
            m.next = "Answer"

        with m.FSM():
            with m.State("Boot"), m.If(self.wiped):
                m.d.sync += state.eq(State.IDLE)
                m.next = "Idle"

            with m.State("Idle"):
                m.d.comb += self.command.ready.eq(~halted)
                m.d.sync += second.eq(0)
                with m.If(taken):
                    m.next = "Judge"

            with m.State("Judge"):
                answer(Refusal.WRONG_STATE)
                with m.Switch(held.op):
                    with m.Case(ControlOp.BEGIN), m.If(state == State.IDLE):
                        answer(Refusal.NONE)
                        with m.If(~held.check):
                            m.d.comb += keys.load.eq(1)
                            m.next = "Await-Key"
                    with m.Case(ControlOp.SLOT), m.If(config):
                        answer(keys.declare_refusal)
                        m.d.comb += keys.declare.eq(
                            (keys.declare_refusal == Refusal.NONE) & ~held.check
                        )
                    # SEC: TEC.TABLE_LOCKED
                    with m.Case(ControlOp.ROW, ControlOp.LOCK), m.If(config):
                        m.d.comb += table.start.eq(1)
                        m.next = "Await-Table"
                    with m.Case(ControlOp.KEY), m.If(locked):
                        answer(keys.load_refusal)
                        with m.If((keys.load_refusal == Refusal.NONE) & ~held.check):
                            m.d.comb += keys.load.eq(1)
                            m.next = "Await-Key"
                    with m.Case(ControlOp.IMPORT):
                        answer(Refusal.IMPORT_ROW)
                        with m.If(config | locked):
                            m.d.comb += table.start.eq(1)
                            m.next = "Await-Table"
                    with m.Case(ControlOp.RUN), m.If(locked):
                        # SEC: TEC.UNLOADED_SLOT
                        answer(Refusal.RUN_KEY)
                        with m.If(keys.complete):
                            m.d.comb += table.start.eq(1)
                            m.next = "Await-Table"
                    with m.Case(ControlOp.FINISH):
                        with m.If(self.running & held.check):
                            answer(Refusal.NONE)
                        with m.Elif(self.running & ~self.open_chunk & bitmap.waits):
                            m.next = "Judge"
                        with m.Elif(self.running & ~self.open_chunk & ~table.owes):
                            m.d.comb += bitmap.clear.eq(1)
                            m.next = "Await-Clear"
                        # SEC: TEC.CHUNK_WHOLE
                        # SEC: TEC.EXPORT_COMPLETE
                        with m.Elif(~held.check):
                            m.d.comb += self.fault.eq(1)
                            m.next = "Halt"

            with m.State("Await-Key"), m.If(keys.loaded):
                answer(Refusal.NONE)
                with m.If(held.op == ControlOp.BEGIN):
                    m.d.comb += table.begin.eq(1)
                    m.d.sync += state.eq(State.CONFIG)

            with m.State("Await-Table"), m.If(table.done):
                answer(table.refusal)
                with m.If(table.refusal == Refusal.NONE), m.Switch(held.op):
                    with m.Case(ControlOp.ROW):
                        m.d.comb += keys.named.eq(~held.check)
                    with m.Case(ControlOp.LOCK), m.If(~held.check):
                        m.d.sync += state.eq(State.LOCKED)
                    with m.Case(ControlOp.IMPORT):
                        with m.If(table.sealed & ~keys.asked_loaded):
                            answer(Refusal.IMPORT_KEY)
                        with m.Elif(~held.check):
                            m.next = "Count-Epoch"
                    with m.Default(), m.If(~held.check):
                        m.next = "Count-Epoch"

            with m.State("Count-Epoch"):
                m.d.sync += [epoch.eq(epoch + 1), second.eq(1)]
                with m.If(held.op == ControlOp.IMPORT):
                    m.next = "Import"
                with m.Else():
                    m.d.sync += run.eq(held.row.version)
                    m.next = "Start-Run"
                # SEC: TEC.EPOCH -- one counter per K_mem, never reused, ends in a fault.
                # SEC: TEC.NONCE_UNIQUE -- exports of two runs never share a version.
                # SEC: TEC.WRITTEN_BITMAP -- completely clear before each run.
                runs = held.op == ControlOp.RUN
                rises = (held.row.version > run) & (held.row.version <= self.limits.epochs)
                with m.If((epoch == self.limits.epochs) | (runs & ~(rises & bitmap.clean))):
                    m.d.comb += self.fault.eq(1)
                    m.next = "Halt"

            with m.State("Import"):
                m.d.comb += importing.valid.eq(1)
                with m.If(importing.done):
                    m.d.comb += table.start.eq(1)
                    m.next = "Await-Versions"

            with m.State("Start-Run"):
                m.d.comb += table.start.eq(1)
                m.next = "Await-Versions"

            with m.State("Await-Versions"), m.If(table.done):
                answer(Refusal.NONE)
                with m.If(held.op == ControlOp.RUN):
                    m.d.sync += state.eq(State.RUN)

            with m.State("Await-Clear"), m.If(bitmap.clean):
                m.d.sync += state.eq(State.LOCKED)
                answer(Refusal.NONE)

            with m.State("Answer"):
                m.d.comb += [self.answer_valid.eq(~halted), forget.eq(1)]
                m.next = "Idle"

            with m.State("Halt"):
                pass

        return m
