"""The control of the TEC and the golden TEC: the same answers, versions, keys and faults."""

import random

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ginseng.golden.dram import Dram
from ginseng.golden.port import Fatal, Transfer
from ginseng.golden.tec import Tec
from ginseng.isa.config import BusConfig, Memory, SystemConfig, TecConfig
from ginseng.isa.formats import TAG_BYTES, chunk_count, chunk_nonce, chunk_place, sealed_bytes
from ginseng.isa.mailbox import Refusal, State
from ginseng.isa.table import TENSOR_ROW, Domain, Limits, Permission, SlotUse, Source
from ginseng.tec.control import ControlOp

WINDOW, BASE = 1 << 14, 0x4000_0000
CONFIG = SystemConfig(
    bus=BusConfig(window_base=BASE, window_bytes=WINDOW),
    tec=TecConfig(table_entries=8, bitmap_bits=12),
)
#: Low enough that a session reaches them.
LIMITS = {"epochs": 4, "blocks": 60}
R, W, X = (int(p) for p in (Permission.R, Permission.W, Permission.X))
SEALED, PLAIN = int(Source.SEALED), int(Source.PLAIN)
STATIC, SESSION = SlotUse.STATIC, SlotUse.SESSION
#: Every legal kind: domain, permissions, measured, source, use of the slot, whether versioned.
ENTRY = (Domain.PROGRAM, R | X, 1, PLAIN, None, False)
KINDS = [
    ENTRY,
    (Domain.WEIGHTS, R, 0, SEALED, STATIC, True),
    (Domain.WEIGHTS, R, 1, SEALED, STATIC, True),
    (Domain.WEIGHTS, R, 1, PLAIN, None, False),
    (Domain.SCRATCH, R | W, 0, SEALED, None, False),
    (Domain.PROGRAM, R, 1, PLAIN, None, False),
    (Domain.IMPORT, R, 0, SEALED, SESSION, False),
    (Domain.EXPORT, W, 0, SEALED, SESSION, False),
    (Domain.EXPORT, W, 1, SEALED, SESSION, False),
]


class Pair:
    """Gates and golden TEC, given the same commands; every difference is an assertion."""

    def __init__(self, gates, rng):
        self.gates, self.rng = gates, rng
        self.answers = {op: set() for op in ControlOp}
        self.faults = self.sessions = 0
        self.commands = 0
        self.forget()

    def forget(self):
        """A session ends: of the gates too, if they are not new."""
        self.sessions += 1
        self.dram = Dram(BASE, WINDOW)
        self.tec = Tec(CONFIG, self.dram, limits=Limits(**LIMITS))
        self.keys, self.uses, self.rows = {}, {}, {}
        self.locked = self.running = False
        self.run = 0
        self.written, self.placed = set(), set()

    def restart(self):
        """After a fault there is only a reset; otherwise a wipe does."""
        if self.gates.state is State.FATAL:
            self.gates.wipe()
            # SEC: TEC.STICKY_FATAL is tested: a wipe is no way out.
            assert self.gates.state is State.FATAL
            self.gates.reset()
        else:
            self.gates.wipe()
        assert self.gates.state is State.IDLE
        self.forget()

    def both(self, op, golden, *, imports=None, **fields):
        """Give a command to both; return the refusal, None after a fault of both."""
        self.commands += 1
        before = self.gates.state
        asked = None
        if self.rng.random() < 0.3 or op is ControlOp.IMPORT:
            asked = self.gates.command(op, check=1, **fields)
            assert self.gates.state is before
        try:
            expected = golden()
        except Fatal:
            expected = None
        got = self.gates.command(op, imports=imports, **fields)
        assert got is expected, (op, fields, got, expected)
        self.answers[op].add("FATAL" if got is None else got.name)
        if got is None:
            assert self.gates.state is State.FATAL
            assert not self.gates.model.get("command__ready")
            self.faults += 1
            self.restart()
        elif asked is not None:
            assert asked is got, (op, fields)
        return got

    # Commands

    def begin(self):
        key = self.rng.randbytes(16)
        fresh = self.gates.state is State.IDLE

        def golden():
            if not fresh:
                return Refusal.WRONG_STATE
            self.tec.begin(key)
            return Refusal.NONE

        if self.both(ControlOp.BEGIN, golden, row=key) is Refusal.NONE:
            self.keys[0] = key

    def slot(self):
        slot = self.rng.choice([*range(9), 255])
        use = self.rng.choice([0, 1, 1, 2, 2, 3, 128])
        answer = self.both(
            ControlOp.SLOT, lambda: self.tec.declare_slot(slot, use), slot=slot, use=use
        )
        if answer is Refusal.NONE:
            self.uses[slot] = SlotUse(use)

    def key(self):
        missing = [slot for slot in self.uses if slot not in self.keys]
        slot, key = self.rng.choice([*range(9), *missing * 20]), self.rng.randbytes(16)
        answer = self.both(ControlOp.KEY, lambda: self.tec.load_key(slot, key), slot=slot, row=key)
        if answer is Refusal.NONE:
            self.keys[slot] = key

    def row(self):
        rng = self.rng
        entered = any(fields["permissions"] & X for fields in self.rows.values())
        kind = rng.choice(KINDS) if entered or rng.random() < 0.5 else ENTRY
        domain, permissions, measured, source, use, versioned = kind
        slots = [slot for slot, declared in self.uses.items() if declared is use]
        chunk = 16 * rng.choice([1, 2, 4, 5, 7, 32, 33])
        fields = {
            "domain": int(domain),
            "permissions": permissions,
            "measured": measured,
            "source": source,
            "slot": rng.choice(slots or [0]) if use else 0,
            "chunk": chunk,
            "length": min(16 * rng.randint(1, 24), chunk * 9),
            "base": BASE + 128 * rng.randrange(WINDOW // 128),
            "version": rng.choice([0, 1, rng.getrandbits(48)]) if versioned else 0,
        }
        if rng.random() < 0.3:
            name = rng.choice(list(fields))
            width = TENSOR_ROW.bounds(name)[1].bit_length()
            other = rng.getrandbits(width)
            fields[name] = rng.choice([other, other & 15, fields[name] ^ 1 << rng.randrange(width)])
        word = int.from_bytes(TENSOR_ROW.pack(**fields), "little")
        if rng.random() < 0.05:
            word |= 1 << rng.randrange(200, 256)
        word = word.to_bytes(32, "little")
        handle = rng.choice([*range(8), *range(8), 8, 9, 4095, 65535])
        answer = self.both(
            ControlOp.ROW, lambda: self.tec.load_row(handle, word), handle=handle, row=word
        )
        if answer is Refusal.NONE:
            self.rows[handle] = fields

    @property
    def due(self):
        """Rows that wait to be imported now."""
        return [
            handle
            for handle, fields in self.rows.items()
            if fields["measured"]
            and fields["domain"] != Domain.EXPORT
            and (fields["source"] == PLAIN) != self.locked
            and handle not in self.placed
        ]

    def imports(self):
        rng = self.rng
        handle = rng.choice([*sorted(self.due)[:1] * 30, *self.due, *range(9), 65535])
        fields = self.rows.get(handle)
        plain = fields is None or fields["source"] == PLAIN
        source = BASE + 128 * rng.randrange(WINDOW // 128)
        if rng.random() < 0.1:
            source = rng.choice([source + 16, BASE - 128, 1 << 39])
        said = {}

        def importer(port):
            """Count what is sealed, as the importer does, and nothing else."""
            said.update(port)
            length, chunk = port["entry"]["length"], port["entry"]["chunk"]
            return all(
                self.gates.ask("seal", "seal_ok", slot=0, blocks=min(chunk, length - first) // 16)
                for first in range(0, length, chunk)
            )

        def golden():
            refusal = self.tec.check_import(handle, source)
            if refusal is not Refusal.NONE:
                return refusal
            if plain:
                self.tec.import_plain(handle, source)
            else:
                self.offer(fields, handle, fields["version"], source)
                self.tec.import_sealed(handle, source)
            return Refusal.NONE

        answer = self.both(
            ControlOp.IMPORT,
            golden,
            imports=importer,
            handle=handle,
            row=TENSOR_ROW.pack(base=source),
        )
        if answer is not Refusal.NONE:
            return
        entry = said["entry"]
        assert said["handle"] == handle
        assert said["sealed"] == (not plain)
        assert said["source"] == source - BASE
        if not plain:
            assert said["slot"] == fields["slot"]
            assert entry["version"] == fields["version"]
        self.open(handle, entry | {"version": said["epoch"]})
        self.placed.add(handle)

    def lock(self):
        entries = [h for h, fields in self.rows.items() if fields["permissions"] & X]
        handle = self.rng.choice([*range(9), *entries * 20])
        if self.both(ControlOp.LOCK, lambda: self.tec.lock(handle), handle=handle) is Refusal.NONE:
            self.locked = True

    def start(self):
        run = self.run + self.rng.choice([1] * 6 + [0, 2])

        def golden():
            refusal = self.tec.check_run()
            if refusal is Refusal.NONE:
                self.tec.start_run(run)
            return refusal

        if self.both(ControlOp.RUN, golden, row=TENSOR_ROW.pack(version=run)) is Refusal.NONE:
            self.run, self.running, self.written = run, True, set()
            self.look()

    def finish(self):
        def golden():
            self.tec.finish_run()
            return Refusal.NONE

        if self.both(ControlOp.FINISH, golden) is Refusal.NONE:
            self.running = False

    # What the data paths do in a run

    def look(self):
        """The planner finds every row as it was given, and its version."""
        for handle in range(8):
            entry, fields = self.gates.lookup(handle), self.rows.get(handle)
            assert bool(entry["valid"]) == (fields is not None)
            if fields is None:
                continue
            for name in ("domain", "permissions", "measured", "length", "chunk"):
                assert entry[name] == fields[name]
            assert entry["base"] == fields["base"] - BASE
            assert entry["extent"] == sealed_bytes(fields["length"], fields["chunk"])
            assert entry["placed"]
            imported = fields["measured"] and fields["domain"] != Domain.EXPORT
            assert entry["slot"] == (0 if imported else fields["slot"])
            if imported:
                self.open(handle, entry)
            elif fields["domain"] == Domain.WEIGHTS:
                assert entry["version"] == fields["version"]

    def write(self):
        """Store one chunk: the golden TEC seals it, under the version that the gates say."""
        rng = self.rng
        handles = [h for h, fields in self.rows.items() if fields["permissions"] & W]
        if not handles:
            return
        handle = rng.choice(handles)
        entry = self.gates.lookup(handle)
        chunks = chunk_count(entry["length"], entry["chunk"])
        left = [n for n in range(chunks) if (handle, n) not in self.written]
        again = rng.random() < 0.02 or not left
        index = rng.randrange(chunks) if again else rng.choice(left)
        bit = entry["first_bit"] + index
        assert self.gates.readable(bit) == ((handle, index) in self.written)
        first = index * entry["chunk"]
        nbytes = min(first + entry["chunk"], entry["length"]) - first
        offset = handle << CONFIG.tec.offset_bits | first // 16
        try:
            transfer = Transfer(Memory.OUT, offset, 1, nbytes // 16, nbytes // 16)
            self.tec.write(transfer, np.frombuffer(rng.randbytes(nbytes), np.uint8), 0)
            expected = True
        except Fatal:
            expected = False
        export = int(entry["domain"] == Domain.EXPORT)
        good = self.gates.ask("begin", "begin_fresh", bit=bit, export=export)
        if good:
            assert not self.gates.readable(bit)
            slot, blocks = entry["slot"], nbytes // 16
            good = self.gates.ask("seal", "seal_ok", slot=slot, blocks=blocks)
        assert good == expected
        if not good:
            assert self.gates.state is State.FATAL
            self.faults += 1
            self.restart()
            return
        self.gates.pulse("finish")
        assert self.gates.readable(bit)
        self.written.add((handle, index))
        self.open(handle, entry, [index])

    # Sealed tensors

    def offer(self, fields, handle, version, source):
        for index in range(chunk_count(fields["length"], fields["chunk"])):
            first = index * fields["chunk"]
            nbytes = min(first + fields["chunk"], fields["length"]) - first
            nonce = chunk_nonce(fields["domain"], handle, version, index)
            sealed = AESGCM(self.keys[fields["slot"]]).encrypt(
                nonce, self.rng.randbytes(nbytes), None
            )
            self.dram.write(source + chunk_place(index, fields["chunk"]), sealed)

    def open(self, handle, entry, indices=None):
        """What the golden TEC wrote opens under what the gates say of it, and nothing else."""
        chunks = chunk_count(entry["length"], entry["chunk"])
        for index in range(chunks) if indices is None else indices:
            first = index * entry["chunk"]
            nbytes = min(first + entry["chunk"], entry["length"]) - first
            at = BASE + entry["base"] + chunk_place(index, entry["chunk"])
            sealed = bytes(self.dram.read(at, nbytes + TAG_BYTES))
            nonce = chunk_nonce(entry["domain"], handle, entry["version"], index)
            AESGCM(self.keys[entry["slot"]]).decrypt(nonce, sealed, None)

    @property
    def complete(self):
        """Whether every export is written, so that FINISH is legal."""
        return all(
            (handle, index) in self.written
            for handle, fields in self.rows.items()
            if fields["domain"] == Domain.EXPORT
            for index in range(chunk_count(fields["length"], fields["chunk"]))
        )

    def step(self):
        """Do something that may make sense now, or, now and then, anything."""
        ready = not self.due and len(self.rows) > 4
        likely = {
            State.IDLE: [self.begin],
            State.CONFIG: [
                self.slot,
                *[self.row] * 4,
                *[self.imports] * 3,
                *[self.lock] * 9 * ready,
            ],
            State.LOCKED: [*[self.key] * 3, *[self.imports] * 2, *[self.start] * (1 + 9 * ready)],
            State.RUN: [*[self.write] * 20, *[self.finish] * (1 + 9 * self.complete)],
        }[self.gates.state]
        if self.rng.random() < 0.08:
            commands = [self.begin, self.slot, self.key, self.row, self.imports, self.lock]
            self.rng.choice([*commands, self.start])()
        elif self.rng.random() < 0.03:
            self.restart()
        else:
            self.rng.choice(likely)()


#: What the random sessions must have met, so that they test something.
SESSION_ANSWERS = {
    ControlOp.BEGIN: {"NONE", "WRONG_STATE"},
    ControlOp.SLOT: {"NONE", "WRONG_STATE", "ILLEGAL_ARGUMENT", "SLOT_USE", "SLOT_TAKEN"},
    ControlOp.ROW: {"NONE", "WRONG_STATE"} | {r.name for r in Refusal if r.name[:4] == "ROW_"},
    ControlOp.KEY: {"NONE", "WRONG_STATE", "KEY_SLOT"},
    ControlOp.IMPORT: {"NONE", "FATAL"} | {r.name for r in Refusal if r.name[:7] == "IMPORT_"},
    ControlOp.LOCK: {"NONE", "WRONG_STATE", "LOCK_ENTRY", "LOCK_IMPORT"},
    ControlOp.RUN: {"NONE", "FATAL", "WRONG_STATE", "RUN_KEY", "RUN_IMPORT"},
    ControlOp.FINISH: {"NONE", "FATAL"},
}


@pytest.mark.rtl
def test_random_sessions_go_as_the_golden_ones(gates_of):
    pair = Pair(gates_of(CONFIG, **LIMITS), random.Random(1))
    while pair.commands < 10_000:
        pair.step()
    assert pair.sessions > 200
    assert pair.faults > 20
    assert pair.answers == SESSION_ANSWERS


class Scene:
    """Gates in a run of one program, one scratch tensor and one export, two chunks each."""

    ROWS = (
        {"domain": 3, "permissions": R | X, "measured": 1, "source": PLAIN},
        {"domain": 2, "permissions": R | W},
        {"domain": 5, "permissions": W, "slot": 1},
    )

    def __init__(self, gates):
        self.gates = gates
        gates.reset()

    def command(self, op, **fields):
        return self.gates.command(op, imports=lambda port: True, **fields)

    def configure(self):
        assert self.command(ControlOp.BEGIN, row=b"k" * 16) is Refusal.NONE
        assert self.command(ControlOp.SLOT, slot=1, use=2) is Refusal.NONE
        for handle, fields in enumerate(self.ROWS):
            place = {"base": BASE + 0x100 * handle}
            row = TENSOR_ROW.pack(chunk=32, length=64, **place, **fields)
            assert self.command(ControlOp.ROW, handle=handle, row=row) is Refusal.NONE
        row = TENSOR_ROW.pack(base=BASE + 0x3000)
        assert self.command(ControlOp.IMPORT, handle=0, row=row) is Refusal.NONE
        return self

    def ready(self):
        self.configure()
        assert self.command(ControlOp.LOCK, handle=0) is Refusal.NONE
        assert self.command(ControlOp.KEY, slot=1, row=b"s" * 16) is Refusal.NONE
        return self

    def run(self, number=1):
        assert self.command(ControlOp.RUN, row=TENSOR_ROW.pack(version=number)) is Refusal.NONE
        return self

    def write(self, handle, index, *, finish=True):
        entry = self.gates.lookup(handle)
        bit = entry["first_bit"] + index
        good = self.gates.ask("begin", "begin_fresh", bit=bit, export=entry["domain"] == 5)
        if finish and good:
            self.gates.pulse("finish")
        return good

    def finish(self, **fields):
        return self.command(ControlOp.FINISH, **fields)


@pytest.fixture
def scene(gates_of):
    return Scene(gates_of(CONFIG, **LIMITS))


@pytest.mark.rtl
@pytest.mark.sec("TEC.EXPORT_COMPLETE")
def test_a_run_without_a_chunk_of_an_export_does_not_finish(scene):
    scene.ready().run()
    assert scene.write(2, 1)
    assert scene.write(1, 0)
    assert scene.finish() is None
    assert scene.gates.state is State.FATAL


@pytest.mark.rtl
@pytest.mark.sec("TEC.CHUNK_WHOLE")
def test_a_run_does_not_finish_while_a_chunk_is_written_in_part(scene):
    scene.ready().run()
    assert scene.write(2, 0)
    assert scene.write(2, 1)
    scene.gates.model.set("open_chunk", 1)
    finished = scene.finish()
    scene.gates.model.set("open_chunk", 0)
    assert finished is None


@pytest.mark.rtl
def test_finish_waits_for_the_responses_of_every_chunk(scene):
    scene.ready().run()
    gates = scene.gates
    assert scene.write(2, 0, finish=False)
    assert scene.write(2, 1, finish=False)
    gates.put("command", op=ControlOp.FINISH.value)
    for _ in range(2):
        assert gates.model.run(500, until=["answer_valid", "fault"]) == 500
        gates.pulse("finish")
    assert gates.model.run(500, until=["answer_valid", "fault"]) < 500
    assert Refusal(gates.model.get("answer")) is Refusal.NONE
    gates.model.run(1)
    # Everything is fresh, and unreadable, in the next run.
    scene.run(2)
    assert not gates.readable(gates.lookup(1)["first_bit"])
    assert scene.write(2, 0)


@pytest.mark.rtl
@pytest.mark.sec("TEC.WRITTEN_BITMAP")
def test_a_chunk_that_is_written_twice_is_a_fault(scene):
    scene.ready().run()
    assert scene.write(1, 1)
    assert not scene.write(1, 1)
    assert scene.gates.state is State.FATAL


@pytest.mark.rtl
@pytest.mark.sec("TEC.STICKY_FATAL")
def test_a_fault_elsewhere_ends_every_command_for_ever(scene):
    gates = scene.ready().gates
    row = TENSOR_ROW.pack(version=1)
    gates.put("command", op=ControlOp.RUN.value, row=int.from_bytes(row, "little"))
    gates.model.set("stop", 1)
    assert gates.model.run(2000, until=["answer_valid"]) == 2000
    assert gates.state is State.FATAL
    gates.wipe()
    assert gates.state is State.FATAL
    assert not gates.model.get("command__ready")
    gates.model.set("stop", 0)


@pytest.mark.rtl
@pytest.mark.sec("TEC.ZEROIZE")
def test_a_wipe_at_any_cycle_of_a_command_leaves_a_session_that_can_begin(scene):
    """Every 3rd cycle of a row that is compared with others; then nothing of it is left."""
    gates = scene.gates
    for cycle in range(0, 120, 3):
        gates.reset()
        scene.configure()
        row = TENSOR_ROW.pack(
            domain=2,
            permissions=R | W,
            chunk=16,
            length=64,
            base=BASE + 0x800,
        )
        gates.put("command", op=ControlOp.ROW.value, handle=3, row=int.from_bytes(row, "little"))
        gates.model.run(cycle)
        gates.wipe()
        assert gates.state is State.IDLE
        scene.ready().run()
        assert [bool(gates.lookup(handle)["valid"]) for handle in range(8)] == [1, 1, 1, *[0] * 5]
        assert gates.lookup(1)["version"] == 2
