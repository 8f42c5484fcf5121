"""A whole program under attack, golden or in gates, without its monitor (TEC specification §10)."""

import random
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from cryptography.exceptions import InvalidTag

from ginseng.bench.memory import Injection, MemoryModel
from ginseng.golden.dram import Dram
from ginseng.golden.engine import golden_engine
from ginseng.golden.port import Fatal
from ginseng.golden.tec import Tec
from ginseng.isa.config import Memory
from ginseng.isa.insn import Opcode, instruction_set
from ginseng.isa.mailbox import Refusal

K_MEM = bytes(range(16))
QUIET = MemoryModel(name="quiet", latency=(4, 4))


class Session:
    """What the monitor makes the engine do, under keys that are always the same."""

    def __init__(self, kit, config, make, *, code=None, k_mem=K_MEM):
        self.kit, self.config, self.k_mem = kit, config, k_mem
        self.program = kit.tiny_program(config)
        if code is not None:
            self.program.contents[kit.PROGRAM] = code
            row = self.program.rows[kit.PROGRAM]
            self.program.rows[kit.PROGRAM] = replace(row, length=len(code))
        self.keys = {slot: bytes([slot]) * 16 for slot in kit.USES}
        self.dram = Dram(config.bus.window_base, config.bus.window_bytes)
        self.tec, self.core = make(config, self.dram)

    def ready(self):
        kit, tec, program = self.kit, self.tec, self.program
        self.core.reset()
        tec.begin(self.k_mem)
        for slot, use in kit.USES.items():
            assert tec.declare_slot(slot, use) is Refusal.NONE
        for handle, row in program.rows.items():
            assert tec.load_row(handle, row.pack()) is Refusal.NONE
        source = self.dram.base + 0x8000
        for handle in (kit.PROGRAM, kit.UOPS, kit.BIAS):
            self.dram.write(source, program.contents[handle])
            assert tec.import_plain(handle, source) == program.contents[handle]
        assert tec.lock(kit.PROGRAM) is Refusal.NONE
        assert tec.check_run() is Refusal.RUN_KEY
        for slot, key in self.keys.items():
            assert tec.load_key(slot, key) is Refusal.NONE
        assert tec.check_run() is Refusal.RUN_IMPORT
        self.place(kit.MEASURED_WEIGHTS, source)
        tec.import_sealed(kit.MEASURED_WEIGHTS, source)
        self.place(kit.OPEN_WEIGHTS)
        self.offer(1)
        return self

    def place(self, handle, base=None, version=None):
        row = self.program.rows[handle]
        version = row.version if version is None else version
        data = self.program.contents[handle]
        text, tags = self.kit.seal(self.keys[row.slot], row, handle, version, data)
        self.dram.write(base or row.base, self.kit.interleave(row, text, tags))

    def offer(self, run):
        self.place(self.kit.INPUT, version=run)

    def start(self, number=1):
        self.core.clear()
        self.tec.start_run(number)
        entry = self.kit.PROGRAM
        self.core.start(entry << self.config.tec.offset_bits, self.tec.length(entry) // 16)

    def run(self, number=1):
        try:
            self.start(number)
            self.core.run()
            return self.tec.finish_run()
        except Fatal:
            # Of the golden core's faults the monitor tells the TEC; gates need nobody for that.
            if isinstance(self.tec, Tec):
                self.tec.zeroize()
            raise

    def spans(self, handle):
        """Indices of the data and tags of a tensor in ``dram.bytes``."""
        row = self.program.rows[handle]
        return self.kit.spans(row, row.base - self.dram.base)

    def opened(self, handle, key, version):
        """What a tensor holds by an AES-GCM library; InvalidTag if it does not open."""
        text, tags = (self.dram.bytes[span].tobytes() for span in self.spans(handle))
        return self.kit.open_sealed(key, self.program.rows[handle], handle, version, text, tags)

    def output(self, run=1):
        return self.opened(self.kit.OUTPUT, self.keys[self.kit.OUTPUT_SLOT], run)

    @property
    def result(self):
        return self.program.result(self.program.contents[self.kit.INPUT])


class Engines:
    """Makes sessions on one engine; what is written on the bus of gates is checked."""

    def __init__(self, kit, config, gates):
        self.kit, self.config, self.gates = kit, config, gates
        self.make = golden_engine if gates is None else gates

    def session(self, *, memory=QUIET, **options):
        if self.gates:
            self.gates.memory = memory
        return Session(self.kit, self.config, self.make, **options)

    def check(self, session):
        return self.gates.check(session.program.plaintexts) if self.gates else 0

    def must_stop(self, session):
        """Run; F: a fault, no byte of the result, nothing left."""
        before = [session.dram.bytes[span].copy() for span in session.spans(self.kit.OUTPUT)]
        with pytest.raises(Fatal):
            session.run()
        self.stopped(session, before)

    def stopped(self, session, before):
        self.check(session)
        for span, held in zip(session.spans(self.kit.OUTPUT), before, strict=True):
            assert np.array_equal(session.dram.bytes[span], held), "a byte of the result left"
        with pytest.raises(Fatal):
            session.tec.check_run()


@pytest.fixture
def engines(kit, config, engine, request):
    return Engines(kit, config, request.getfixturevalue("gates") if engine == "gates" else None)


@pytest.fixture
def on_gates(kit, config, gates):
    return Engines(kit, config, gates)


@pytest.mark.rtl
def test_nothing_that_a_stopped_run_measured_is_measured_of_the_next_session(on_gates):
    code = b"".join(programs(on_gates.kit, on_gates.config)["a store twice"])
    session = on_gates.session(code=code).ready()
    with pytest.raises(Fatal):
        session.run()
    on_gates.check(session)
    # Where the imports are compared with what they measure.
    on_gates.session().ready()


def corrupt(engines, trials, seed):
    """Flip 1 to 64 bits of what the next run reads; return how many trials were stopped."""
    kit, rng, stopped = engines.kit, random.Random(seed), 0
    for trial in range(trials + 1):
        session = engines.session().ready()
        cells = [
            at
            for handle in session.program.rows
            if handle != kit.OUTPUT
            for span in session.spans(handle)
            for at in span
        ]
        # The first trial flips nothing and must succeed: the others fail for their flips alone.
        count = rng.randint(1, 64) if trial else 0
        for at, bit in {(rng.choice(cells), rng.randrange(8)) for _ in range(count)}:
            session.dram.bytes[at] ^= 1 << bit
        if trial:
            engines.must_stop(session)
            stopped += 1
        else:
            session.run()
            assert session.output() == session.result
    return stopped


@pytest.mark.both
def test_some_random_corruptions_of_a_program_are_never_silent(engines, record_property):
    record_property("trials", corrupt(engines, 5, 1))


@pytest.mark.both(campaign=True)
def test_a_thousand_random_corruptions_of_a_program_are_never_silent(engines, record_property):
    record_property("trials", corrupt(engines, 1_000, 2))


@pytest.mark.both
def test_what_a_run_leaves_opens_under_its_key_and_version_and_under_no_other(engines):
    kit = engines.kit
    session = engines.session().ready()
    for run in (1, 2):
        session.offer(run)
        session.run(run)
    engines.check(session)
    model, own = session.keys[kit.MODEL_SLOT], session.k_mem
    # Epochs 1 to 4 went to the imports in their order.
    tensors = {
        kit.PROGRAM: (own, 1),
        kit.UOPS: (own, 2),
        kit.BIAS: (own, 3),
        kit.MEASURED_WEIGHTS: (own, 4),
        kit.OPEN_WEIGHTS: (model, 7),
        kit.INPUT: (session.keys[kit.INPUT_SLOT], 2),
        kit.OUTPUT: (session.keys[kit.OUTPUT_SLOT], 2),
    }
    contents = session.program.contents | {kit.OUTPUT: session.result}
    keys = [own, *session.keys.values(), bytes(16)]
    for handle, right in tensors.items():
        assert session.opened(handle, *right) == contents[handle]
        for wrong in [(key, right[1]) for key in keys] + [(right[0], n) for n in range(10)]:
            if wrong != right:
                with pytest.raises(InvalidTag):
                    session.opened(handle, *wrong)


# Programs


def programs(kit, config):
    """Return programs of an owner who means ill, or who forgot something, by name."""
    isa = instruction_set(config.core)
    bits = config.tec.offset_bits
    count = {"y_size": 1, "x_size": 1, "x_stride": 1}

    def load(memory, handle, **fields):
        where = {"memory": int(memory), "dram_base": handle << bits}
        return isa.encode(Opcode.LOAD, **where, **(count | fields))

    def store(offset=0, **fields):
        where = {"memory": int(Memory.OUT), "dram_base": kit.OUTPUT << bits | offset}
        return isa.encode(Opcode.STORE, **where, **(count | fields))

    gemm = partial(isa.encode, Opcode.GEMM, uop_end=1, iter_out=1, iter_in=1)
    finish = partial(isa.encode, Opcode.FINISH)
    bias, uop = load(Memory.ACC, kit.BIAS), partial(load, Memory.UOP, kit.UOPS)
    inp, wgt = load(Memory.INP, kit.INPUT), load(Memory.WGT, kit.OPEN_WEIGHTS)
    pushing = load(Memory.ACC, kit.BIAS, push_next=1)
    popping = store(pop_prev=1, push_prev=1)
    ended = finish(pop_next=1)
    return {
        "no token of a load": (inp, wgt, uop(), gemm(push_next=1), popping, ended),
        "no token at all": (inp, wgt, uop(), bias, gemm(), store(), finish()),
        "a load straight to a store": (pushing, popping, ended),
        "a load straight to a store without token": (bias, store(), finish()),
        "a store twice": (pushing, store(pop_prev=1), popping, ended),
        "a store beyond the tensor": (pushing, store(1, pop_prev=1, push_prev=1), ended),
        "a store of two": (pushing, store(x_size=2, pop_prev=1, push_prev=1), ended),
        "overlapping rows": (
            pushing,
            store(y_size=2, x_stride=0, pop_prev=1, push_prev=1),
            ended,
        ),
        "a store of nothing": (pushing, store(x_size=0, pop_prev=1, push_prev=1), ended),
        "no store": (bias, finish()),
        "a store into weights": (
            pushing,
            isa.encode(
                Opcode.STORE,
                memory=int(Memory.OUT),
                dram_base=kit.OPEN_WEIGHTS << bits,
                **count,
                pop_prev=1,
                push_prev=1,
            ),
            ended,
        ),
        "micro-ops from weights": (load(Memory.UOP, kit.OPEN_WEIGHTS), finish()),
        "micro-ops from an input": (load(Memory.UOP, kit.INPUT), finish()),
        "a read of the result": (load(Memory.INP, kit.OUTPUT), finish()),
        "a handle without a row": (load(Memory.INP, 9), finish()),
        "a load beyond the tensor": (
            isa.encode(
                Opcode.LOAD, memory=int(Memory.INP), dram_base=kit.INPUT << bits | 1, **count
            ),
            finish(),
        ),
        "an offset that wraps": (
            isa.encode(
                Opcode.LOAD,
                memory=int(Memory.INP),
                dram_base=kit.INPUT << bits | (1 << bits) - 1,
                **(count | {"x_size": 2}),
            ),
            finish(),
        ),
        "a scratchpad overrun": (
            load(Memory.INP, kit.INPUT, sram_base=config.core.depth(Memory.INP)),
            finish(),
        ),
        "an illegal memory type": (load(6, kit.INPUT), finish()),
        "an illegal opcode": (bytes([7]) + bytes(15), finish()),
        "no FINISH": (pushing, popping),
        "a token that never comes": (pushing, popping, finish(pop_next=1, pop_prev=1)),
    }


#: What keeps to every rule of the TEC: its result is right, or at least its owner's own fault.
RUNS = (
    "no token of a load",
    "no token at all",
    "a load straight to a store",
    "a load straight to a store without token",
)
STOPS = (
    "a store twice",
    "a store beyond the tensor",
    "a store of two",
    "overlapping rows",
    "a store of nothing",
    "no store",
    "a store into weights",
    "micro-ops from weights",
    "micro-ops from an input",
    "a read of the result",
    "a handle without a row",
    "a load beyond the tensor",
    "an offset that wraps",
    "a scratchpad overrun",
    "an illegal memory type",
    "an illegal opcode",
    "no FINISH",
    "a token that never comes",
)


@pytest.mark.both
@pytest.mark.parametrize("name", STOPS)
def test_a_program_that_breaks_a_rule_is_fatal(engines, name):
    code = b"".join(programs(engines.kit, engines.config)[name])
    session = engines.session(code=code).ready()
    before = [session.dram.bytes[span].copy() for span in session.spans(engines.kit.OUTPUT)]
    with pytest.raises(Fatal):
        session.run()
    if name not in ("a store twice", "no FINISH", "a token that never comes", "overlapping rows"):
        engines.stopped(session, before)
    else:
        # What was stored before the fault is ciphertext already released.
        engines.check(session)


@pytest.mark.sec("TEC.STORE_BARRIER")
@pytest.mark.both
@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("part", [0, 1], ids=["data", "tag"])
def test_no_result_leaves_before_what_it_may_depend_on_verified(engines, name, part):
    """The program drops tokens, and one of its loads is forged: its store never starts."""
    kit = engines.kit
    code = b"".join(programs(kit, engines.config)[name])
    session = engines.session(code=code).ready()
    racy = name in ("no token at all", "a load straight to a store without token")
    try:
        session.run()
    except Fatal:
        # A write into what a store is reading is fatal as well.
        assert racy
    else:
        assert len(session.output()) == 16
    for handle in (kit.BIAS,) if "straight" in name else (kit.INPUT, kit.OPEN_WEIGHTS):
        session = engines.session(code=code).ready()
        session.dram.bytes[session.spans(handle)[part][1]] ^= 0x10
        if not racy:
            engines.must_stop(session)
            continue
        blank = session.dram.bytes[session.spans(kit.OUTPUT)[1]].copy()
        with pytest.raises(Fatal):
            session.run()
        engines.check(session)
        if not np.array_equal(session.dram.bytes[session.spans(kit.OUTPUT)[1]], blank):
            # A store before every load: what it gave away is what RUN left in ACC.
            assert session.output() == bytes(16)


# Reset, bus: gates only


def reset_within(engines, cycle, *, whole):
    """Reset the gates at a cycle of a run, with their memory or alone; then try again."""
    model = engines.gates.model
    session = engines.session().ready()
    session.start()
    model.set("start", 1)
    model.run(1)
    model.set("start", 0)
    model.run(cycle, until=("fatal",))
    over = bool(model.get("done"))
    model.reset()
    if whole:
        engines.gates.attach(session.dram)
    session.k_mem = bytes(reversed(K_MEM))
    try:
        session.ready()
        session.run()
    except Fatal:
        assert not whole, "a clean restart is fatal"
    else:
        assert session.output() == session.result
    if whole:
        # The beats of both runs; a memory that was not reset calls the reset a broken rule.
        engines.check(session)
    else:
        assert not engines.gates.plain(session.program.plaintexts, engines.gates.written())
    return over


@pytest.mark.rtl
@pytest.mark.parametrize("whole", [True, False], ids=["all", "gates"])
def test_a_reset_within_a_run_is_a_clean_restart(on_gates, whole, record_property):
    cycles = (0, 40, 333)
    for cycle in cycles:
        reset_within(on_gates, cycle, whole=whole)
    record_property("trials", len(cycles))


@pytest.mark.rtl
@pytest.mark.campaign
@pytest.mark.parametrize("whole", [True, False], ids=["all", "gates"])
def test_a_reset_at_every_cycle_of_a_run_is_a_clean_restart(on_gates, whole, record_property):
    cycle = 0
    while not reset_within(on_gates, cycle, whole=whole):
        cycle += 1
    assert cycle > 300
    record_property("trials", cycle + 1)


def bus_errors(session):
    """Every error that the bus can make of a beat, or of a burst, that a run needs."""
    base, kit = session.dram.base, session.kit
    for handle in session.program.rows:
        kind = Injection.WRITE_RESPONSE if handle == kit.OUTPUT else Injection.READ_RESPONSE
        for span in session.spans(handle):
            for at in span[:: session.config.bus.beat_bytes]:
                yield from ((kind, base + at, response) for response in (2, 3))


def inject(engines, kind, at, value, memory=QUIET):
    session = engines.session(memory=memory).ready()
    # A memory that counts its bursts from the start of the run.
    engines.gates.attach(session.dram)
    engines.gates.model.inject(kind, at, value)
    with pytest.raises(Fatal):
        session.run()
    engines.check(session)


@pytest.mark.rtl
def test_some_errors_of_the_bus_are_fatal(on_gates, record_property):
    errors = random.Random(1).sample(list(bus_errors(on_gates.session())), 6)
    for error in errors:
        inject(on_gates, *error)
    record_property("trials", len(errors))


@pytest.mark.rtl
@pytest.mark.campaign
def test_an_error_of_every_beat_is_fatal(on_gates, record_property):
    errors = list(bus_errors(on_gates.session()))
    for error in errors:
        inject(on_gates, *error)
    assert len(errors) > 200
    record_property("trials", len(errors))


@pytest.mark.rtl
def test_a_wrong_identifier_or_end_of_every_burst_is_fatal(on_gates, record_property):
    session = on_gates.session().ready()
    on_gates.gates.attach(session.dram)
    session.run()
    traffic = on_gates.gates.model.traffic
    for burst in range(traffic.read_bursts):
        for kind, value in (
            (Injection.READ_ID, 1),
            (Injection.EARLY_LAST, 0),
            (Injection.LATE_LAST, 0),
        ):
            inject(on_gates, kind, burst, value)
    for burst in range(traffic.write_bursts):
        inject(on_gates, Injection.WRITE_ID, burst, 1)
    record_property("trials", 3 * traffic.read_bursts + traffic.write_bursts)


def soak(engines, rough, runs, seed):
    """Run after run in sessions of ten, each with a memory of its own, bit for bit."""
    golden = Engines(engines.kit, engines.config, None)
    session = wanted = None
    for trial in range(runs):
        number = trial % 10 + 1
        memory = rough(1000 * seed + trial)
        if number == 1:
            session, wanted = engines.session(memory=memory).ready(), golden.session().ready()
        else:
            engines.gates.memory = memory
            engines.gates.attach(session.dram)
        inputs = random.Random(trial).randbytes(16)
        for one in (session, wanted):
            one.program.contents[engines.kit.INPUT] = inputs
            one.offer(number)
        assert session.run(number) == wanted.run(number), memory
        assert np.array_equal(session.dram.bytes, wanted.dram.bytes), memory
        engines.check(session)
    return runs


@pytest.mark.rtl
def test_runs_are_those_of_the_golden_engine_whatever_memory_does(on_gates, rough, record_property):
    record_property("trials", soak(on_gates, rough, 8, 1))


@pytest.mark.rtl
@pytest.mark.campaign
def test_a_thousand_runs_are_those_of_the_golden_engine(on_gates, rough, record_property):
    record_property("trials", soak(on_gates, rough, 1_000, 2))
