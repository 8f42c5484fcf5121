"""A tiny enclave program, its owners, and a host that drives the monitor.

The owners' cryptography is written here once more, from the specifications.
"""

import functools
import hashlib
import random
import struct
import types
from collections import deque
from dataclasses import dataclass, field, replace
from enum import Enum

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ginseng.bench.engine import WatchedEngine
from ginseng.bench.model import Model
from ginseng.bench.protected import protected_model
from ginseng.golden.dram import Dram
from ginseng.golden.keygen import DeviceIdentity, RandomSource
from ginseng.golden.monitor import Monitor
from ginseng.isa.config import BusConfig, CoreConfig, Memory, SystemConfig, TecConfig
from ginseng.isa.formats import (
    TAG_BYTES,
    chunk_nonce,
    chunk_place,
    loadkey_info,
    sealed_bytes,
    slot_info,
)
from ginseng.isa.insn import Opcode, instruction_set
from ginseng.isa.mailbox import COMMANDS, Command, Refusal, State
from ginseng.isa.table import TENSOR_ROW, Domain, Permission, SlotUse, Source

WINDOW = 1 << 16
PROGRAM, UOPS, BIAS, OPEN_WEIGHTS, MEASURED_WEIGHTS, INPUT, OUTPUT = range(7)
MODEL_SLOT, INPUT_SLOT, OUTPUT_SLOT = 1, 2, 3
USES = {
    MODEL_SLOT: SlotUse.STATIC,
    INPUT_SLOT: SlotUse.SESSION,
    OUTPUT_SLOT: SlotUse.SESSION,
}
SUITE = Suite(KEM.P256, KDF.HKDF_SHA256, AEAD.AES_128_GCM)


@dataclass(frozen=True)
class Row:
    """A row, and where the host puts it."""

    domain: Domain
    permissions: Permission
    length: int
    chunk: int
    slot: int = 0
    measured: int = 0
    source: Source = Source.SEALED
    version: int = 0
    base: int = 0

    @property
    def chunks(self):
        return -(-self.length // self.chunk)

    def pack(self, *, placed=True):
        return TENSOR_ROW.pack(
            domain=int(self.domain),
            permissions=int(self.permissions),
            slot=self.slot,
            measured=self.measured,
            source=int(self.source),
            chunk=self.chunk,
            base=self.base if placed else 0,
            length=self.length,
            version=self.version,
        )


@dataclass(frozen=True)
class Owner:
    """Keeps a secret for one slot, and has published its commitment."""

    secret: bytes
    blinding: bytes

    @property
    def commitment(self):
        return hashlib.sha256(self.secret + self.blinding).digest()

    def session_key(self, cnf, slot, key_bytes):
        salt = hashlib.sha256(cnf).digest()
        return HKDF(SHA256(), key_bytes, salt, slot_info(slot)).derive(self.secret)

    def message(self, cnf, info, slot):
        """Return the argument of LOADKEY."""
        point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\4" + cnf)
        return SUITE.encrypt(bytes([slot]) + self.secret + self.blinding, point, info=info)


def seal(key, row, handle, version, data):
    """Return ciphertext and tags."""
    text, tags = b"", b""
    for index in range(row.chunks):
        nonce = chunk_nonce(row.domain, handle, version, index)
        sealed = AESGCM(key).encrypt(nonce, data[index * row.chunk :][: row.chunk], None)
        text, tags = text + sealed[:-TAG_BYTES], tags + sealed[-TAG_BYTES:]
    return text, tags


def open_sealed(key, row, handle, version, text, tags):
    """Return the plaintext; raise InvalidTag."""
    return b"".join(
        AESGCM(key).decrypt(
            chunk_nonce(row.domain, handle, version, index),
            text[index * row.chunk :][: row.chunk] + tags[index * TAG_BYTES :][:TAG_BYTES],
            None,
        )
        for index in range(row.chunks)
    )


def interleave(row, text, tags):
    """Return what stands in DRAM: chunks, each with its tag behind it."""
    return b"".join(
        text[n * row.chunk :][: row.chunk] + tags[n * TAG_BYTES :][:TAG_BYTES]
        for n in range(row.chunks)
    )


def spans(row, base):
    """Return the indices of the data and the tags of a row that stands at ``base``."""
    text, tags = [], []
    for n in range(row.chunks):
        at = base + chunk_place(n, row.chunk)
        end = at + min(row.chunk, row.length - n * row.chunk)
        text += range(at, end)
        tags += range(end, end + TAG_BYTES)
    return np.array(text), np.array(tags)


@dataclass(frozen=True)
class TinyProgram:
    """``y = bias + (open weights + measured weights) x``, one vector of 16."""

    config: SystemConfig
    rows: dict[int, Row]
    #: Plaintext of everything that is not made by the program.
    contents: dict[int, bytes] = field(repr=False)

    @property
    def entry(self):
        return PROGRAM

    @property
    def plaintexts(self):
        """Everything that must not be seen outside, the result among it."""
        return [*self.contents.values(), self.result(self.contents[INPUT])]

    def result(self, x):
        weights = sum(
            np.frombuffer(self.contents[handle], np.int8).reshape(16, 16).astype(np.int64)
            for handle in (OPEN_WEIGHTS, MEASURED_WEIGHTS)
        )
        bias = np.frombuffer(self.contents[BIAS], np.int32)
        return (weights @ np.frombuffer(x, np.int8) + bias).astype(np.int8).tobytes()


def _code(config, stale):
    """Return the instructions; with ``stale``, those that use a scratchpad before they fill it."""
    isa = instruction_set(config.core)
    bits = config.tec.offset_bits

    def load(memory, handle, *, x_size=1, sram_base=0, **tokens):
        return isa.encode(
            Opcode.LOAD,
            memory=int(memory),
            sram_base=sram_base,
            dram_base=handle << bits,
            y_size=1,
            x_size=x_size,
            x_stride=x_size,
            **tokens,
        )

    def store(**tokens):
        return isa.encode(
            Opcode.STORE,
            memory=int(Memory.OUT),
            dram_base=OUTPUT << bits,
            y_size=1,
            x_size=1,
            x_stride=1,
            **tokens,
        )

    def gemm(uops, **tokens):
        return isa.encode(Opcode.GEMM, uop_end=uops, iter_out=1, iter_in=1, **tokens)

    def finish(**tokens):
        return isa.encode(Opcode.FINISH, **tokens)

    inp = functools.partial(load, Memory.INP, INPUT)
    wgt = functools.partial(load, Memory.WGT, OPEN_WEIGHTS)
    uop = load(Memory.UOP, UOPS, x_size=2)
    bias = load(Memory.ACC, BIAS)
    match stale:
        case None:
            code = (
                inp(),
                wgt(),
                load(Memory.WGT, MEASURED_WEIGHTS, sram_base=1, push_next=1),
                uop,
                bias,
                gemm(2, pop_prev=1, push_next=1),
                store(pop_prev=1, push_prev=1),
                finish(pop_next=1),
            )
        case Memory.ACC:
            code = (
                store(push_prev=1),
                inp(),
                wgt(push_next=1),
                uop,
                gemm(1, pop_prev=1, pop_next=1),
                finish(),
            )
        case _:
            first, last = (wgt, inp) if stale is Memory.INP else (inp, wgt)
            code = (
                first(push_next=1),
                uop,
                bias,
                gemm(1, pop_prev=1, push_next=1, push_prev=1),
                last(pop_next=1, push_next=1),
                store(pop_prev=1, push_prev=1),
                finish(pop_next=1, pop_prev=1),
            )
    return b"".join(code)


def tiny_program(config, *, stale=None, seed=0):
    randomness = random.Random(seed)
    isa = instruction_set(config.core)
    code = _code(config, stale)
    contents = {
        PROGRAM: code,
        UOPS: isa.uop.pack(wgt=0) + isa.uop.pack(wgt=1) + bytes(8),
        BIAS: struct.pack("<16i", *(randomness.randint(-9999, 9999) for _ in range(16))),
        OPEN_WEIGHTS: randomness.randbytes(256),
        MEASURED_WEIGHTS: randomness.randbytes(256),
        INPUT: randomness.randbytes(16),
    }
    read, write, run = Permission.R, Permission.W, Permission.R | Permission.X
    plain = {"measured": 1, "source": Source.PLAIN}
    rows = {
        PROGRAM: Row(Domain.PROGRAM, run, len(code), 64, **plain),
        UOPS: Row(Domain.PROGRAM, read, 16, 16, **plain),
        BIAS: Row(Domain.WEIGHTS, read, 64, 32, **plain),
        OPEN_WEIGHTS: Row(Domain.WEIGHTS, read, 256, 128, MODEL_SLOT, version=7),
        MEASURED_WEIGHTS: Row(Domain.WEIGHTS, read, 256, 96, MODEL_SLOT, measured=1, version=9),
        INPUT: Row(Domain.IMPORT, read, 16, 16, INPUT_SLOT),
        OUTPUT: Row(Domain.EXPORT, write, 16, 16, OUTPUT_SLOT, measured=1),
    }
    place = config.bus.window_base + 0x1000
    for handle in sorted(rows):
        rows[handle] = replace(rows[handle], base=place)
        place += 0x400
    return TinyProgram(config, rows, contents)


class Host:
    """Drives a device by its commands; the good host unless a test makes it do otherwise.

    Parameters
    ----------
    execute : callable
        As `Monitor.execute`.
    dram : Dram
    program : TinyProgram

    """

    #: Where sources are put for IMPORT.
    SOURCE = 0x8000

    def __init__(self, execute, dram, program, seed=0):
        self.execute = execute
        self.dram = dram
        self.program = program
        # Not the program's: an owner's secret must not turn up among its weights.
        randomness = random.Random(f"owners {seed}")
        self.owners = {
            slot: Owner(randomness.randbytes(32), randomness.randbytes(32)) for slot in USES
        }
        self.cnf = b""
        self.info = b""

    @property
    def key_bytes(self):
        return self.program.config.tec.key_bytes

    def call(self, command, **fields):
        codec = COMMANDS[command].argument
        return self.execute(int(command), codec.pack(**fields) if codec else b"")

    def do(self, command, **fields):
        """Do what must not be refused."""
        refusal, result = self.call(command, **fields)
        assert refusal is Refusal.NONE, f"{command.name} was refused: {refusal.name}"
        return result

    def row(self, handle, row=None):
        word = (row or self.program.rows[handle]).pack()
        return self.execute(int(Command.ROW), struct.pack("<H", handle) + word)

    def begin(self):
        self.cnf = self.do(Command.BEGIN)

    def commit(self, slot):
        commitment = self.owners[slot].commitment
        return self.call(Command.SLOT, slot=slot, use=int(USES[slot]), commitment=commitment)

    def configure(self):
        """Slots and rows."""
        for slot in USES:
            assert self.commit(slot)[0] is Refusal.NONE
        for handle in self.program.rows:
            assert self.row(handle)[0] is Refusal.NONE

    def put_source(self, handle, data, tags=b""):
        """Put an import's source into DRAM; return its address."""
        source = self.dram.base + self.SOURCE + 0x400 * handle
        if tags:
            data = interleave(self.program.rows[handle], data, tags)
        self.dram.write(source, data)
        return {"source": source}

    def import_plain(self, handle):
        where = self.put_source(handle, self.program.contents[handle])
        return self.call(Command.IMPORT, handle=handle, **where)

    def sealed(self, handle):
        """Return ciphertext and tags of a tensor under the model's static key."""
        row = self.program.rows[handle]
        key = self.owners[MODEL_SLOT].secret[: self.key_bytes]
        return seal(key, row, handle, row.version, self.program.contents[handle])

    def import_sealed(self, handle=MEASURED_WEIGHTS):
        return self.call(
            Command.IMPORT, handle=handle, **self.put_source(handle, *self.sealed(handle))
        )

    def import_plains(self):
        for handle in (PROGRAM, UOPS, BIAS):
            assert self.import_plain(handle)[0] is Refusal.NONE

    def lock(self, max_runs=2, entry=PROGRAM):
        refusal, _ = self.call(Command.LOCK, entry=entry, max_runs=max_runs)
        if refusal is Refusal.NONE:
            self.info = loadkey_info(
                hashlib.sha256(self.cnf + b"".join(self.registers(max_runs))).digest()
            )
        return refusal

    def registers(self, max_runs):
        """Return what owners bind their keys to: PCR0 to PCR4 and PCR7 at LOCK, recomputed."""
        pcrs = expected_registers(self, max_runs)
        return [pcrs[n] for n in (0, 1, 2, 3, 4, 7)]

    def message(self, slot, **changes):
        """Return an owner's LOADKEY argument; ``changes`` to what it is made of are lies."""
        owner = changes.get("owner", self.owners[slot])
        return owner.message(
            changes.get("cnf", self.cnf), changes.get("info", self.info), changes.get("named", slot)
        )

    def load_key(self, slot, **changes):
        return self.execute(int(Command.LOADKEY), self.message(slot, **changes))[0]

    def load_keys(self):
        for slot in USES:
            assert self.load_key(slot) is Refusal.NONE

    def place(self, handle, text, tags):
        row = self.program.rows[handle]
        self.dram.write(row.base, interleave(row, text, tags))

    def fetch(self, handle):
        row = self.program.rows[handle]
        held = self.dram.read(row.base, sealed_bytes(row.length, row.chunk))
        return tuple(held[span].tobytes() for span in spans(row, 0))

    def place_weights(self):
        self.place(OPEN_WEIGHTS, *self.sealed(OPEN_WEIGHTS))

    def place_input(self, run, x=None):
        key = self.owners[INPUT_SLOT].session_key(self.cnf, INPUT_SLOT, self.key_bytes)
        data = self.program.contents[INPUT] if x is None else x
        self.place(INPUT, *seal(key, self.program.rows[INPUT], INPUT, run, data))

    def output(self, run):
        """Open the output of ``run`` as its owner does."""
        key = self.owners[OUTPUT_SLOT].session_key(self.cnf, OUTPUT_SLOT, self.key_bytes)
        return open_sealed(key, self.program.rows[OUTPUT], OUTPUT, run, *self.fetch(OUTPUT))

    def run(self):
        return self.call(Command.RUN)[0]

    def to_locked(self, max_runs=2):
        """From IDLE to LOCKED."""
        self.begin()
        self.configure()
        self.import_plains()
        assert self.lock(max_runs) is Refusal.NONE

    def to_ready(self, max_runs=2):
        """From IDLE to the point at which RUN is taken."""
        self.to_locked(max_runs)
        self.load_keys()
        assert self.import_sealed()[0] is Refusal.NONE
        self.place_weights()
        self.place_input(1)


def expected_registers(host, max_runs, *, sealed=False, monitor_rom=None):
    """Recompute the registers at LOCK from what the owners know (monitor specification §2)."""
    pcrs = [bytes(32)] * 8

    def extend(register, kind, handle, data):
        head = struct.pack(">BHQ", kind, handle, len(data))
        inner = hashlib.sha256(head + data).digest()
        pcrs[register] = hashlib.sha256(pcrs[register] + inner).digest()

    rom = monitor_rom or b"ginseng golden monitor 1: no ROM, simulated"
    program = host.program
    extend(0, 1, 0, program.config.digest)
    extend(1, 2, 0, hashlib.sha256(rom).digest())
    for handle, row in sorted(program.rows.items()):
        extend(2, 3, handle, row.pack(placed=False))
    extend(2, 4, program.entry, struct.pack(">Q", max_runs))
    extend(3, 5, PROGRAM, program.contents[PROGRAM])
    extend(3, 5, UOPS, program.contents[UOPS])
    extend(4, 5, BIAS, program.contents[BIAS])
    if sealed:
        row = program.rows[MEASURED_WEIGHTS]
        stream = interleave(row, *host.sealed(MEASURED_WEIGHTS))
        extend(4, 6, MEASURED_WEIGHTS, stream)
    for slot in range(1, 8):
        use, commitment = 0, bytes(32)
        if slot in USES:
            use, commitment = USES[slot], host.owners[slot].commitment
        extend(7, 8, slot, bytes([use]) + commitment)
    return pcrs


class HookedDram(Dram):
    """Calls ``hook`` at each read, once it is set."""

    def __init__(self, base, nbytes):
        super().__init__(base, nbytes)
        self.hook = None

    def read(self, address, nbytes):
        if self.hook is not None:
            self.hook()
        return super().read(address, nbytes)


#: What a snapshot does not look into.
_OPAQUE = (types.FunctionType, types.BuiltinFunctionType, types.ModuleType, type, Enum)
#: What holds nothing further.
_LEAVES = (bytes, bytearray, str, int, float, np.ndarray, random.Random, ec.EllipticCurvePrivateKey)


def objects(root):
    """Yield every object that ``root`` holds, by whatever path, itself first, each once."""
    seen = set()
    todo = deque([root])
    while todo:
        value = todo.popleft()
        if id(value) in seen:
            continue
        if not isinstance(value, int | str | bytes | float | type(None)):
            seen.add(id(value))
        yield value
        if isinstance(value, (*_OPAQUE, *_LEAVES)):
            continue
        if isinstance(value, dict | types.MappingProxyType):
            todo.extend(value.keys())
            todo.extend(value.values())
        elif isinstance(value, set | frozenset):
            todo.extend(sorted(value, key=repr))
        elif isinstance(value, list | tuple | deque):
            todo.extend(value)
        elif isinstance(value, types.MethodType):
            todo.append(value.__self__)
        else:
            todo.extend(getattr(value, "__dict__", {}).values())
            for kind in type(value).__mro__:
                slots = getattr(kind, "__slots__", ())
                names = (slots,) if isinstance(slots, str) else slots
                todo.extend(
                    getattr(value, name)
                    for name in names
                    if not name.startswith("__") and hasattr(value, name)
                )


def as_bytes(value):
    """Return what an object is by itself, without what it refers to."""
    match value:
        case bytes() | bytearray():
            return bytes(value)
        case np.ndarray():
            return value.tobytes()
        case ec.EllipticCurvePrivateKey():
            return value.private_numbers().private_value.to_bytes(32, "big")
        case random.SystemRandom():
            return b""
        case random.Random():
            return repr(value.getstate()).encode()
        case list() | tuple() | deque():
            return type(value).__name__.encode() + b"%d" % len(value)
        case int() | str() | float():
            return repr(value).encode()
        case _:
            return b""


def reachable(root):
    """Yield the bytes of every object that ``root`` holds."""
    return map(as_bytes, objects(root))


def snapshot(root):
    """Return a digest of everything that an object holds."""
    digest = hashlib.sha256()
    for value in reachable(root):
        digest.update(struct.pack("<Q", len(value)) + value)
    return digest.digest()


def make_config(key_bits=128, *, debug=True):
    """Return a build with small scratchpads and a window of 64 KiB."""
    return SystemConfig(
        core=CoreConfig(
            log_uop_buff_size=9, log_inp_buff_size=9, log_wgt_buff_size=12, log_acc_buff_size=11
        ),
        tec=TecConfig(table_entries=16, key_bits=key_bits, bitmap_bits=64),
        bus=BusConfig(window_base=0x10000, window_bytes=WINDOW),
        debug=debug,
    )


@pytest.fixture(scope="session")
def config():
    """Return the build of most tests; a debug build, so that they can name causes."""
    return make_config()


@pytest.fixture(scope="session")
def identity():
    return DeviceIdentity(hashlib.sha256(b"a device of the tests").digest())


@functools.cache
def _watched_model():
    return protected_model(make_config(), watched=True).built


class Gates(WatchedEngine):
    """The core behind its TEC in gates, and the rules of the bus that hold whatever happens."""

    def __init__(self, **options):
        super().__init__(make_config(), Model(_watched_model()), **options)

    def check(self, plaintexts):
        """Check all that stood on the write bus since the last check, and the end of a fault.

        No word of a plaintext is ever there, in a beat taken or not; once there was a fault, every
        beat is empty but the one that was offered already.
        """
        model = self.model
        assert model.traffic.most_reads <= 8
        dead, begin = model.get("fatal"), model.cycle
        if dead:
            assert self.wipes()
            model.run(2_000)
        beats = self.written()
        assert not self.plain(plaintexts, beats)
        if dead:
            # What was offered at the fault stays as it is until it is taken.
            held = [(data, strobe) for cycle, data, strobe in beats if cycle == begin - 1]
            late = {(data, strobe) for cycle, data, strobe in beats if cycle >= begin}
            assert late <= {*held, (bytes(8), 0)}
        return len(beats)

    @staticmethod
    def plain(plaintexts, beats):
        """Return the beats that hold 8 bytes of a plaintext."""
        words = {text[at : at + 8] for text in plaintexts for at in range(len(text) - 7)}
        return [beat for beat in beats if beat[1] in words - {bytes(8)}]


@pytest.fixture
def gates():
    """Return gates fresh from power-up."""
    return Gates()


@pytest.fixture
def power_on(config, identity, engine):
    """Return a function that makes a host and a monitor, booted unless it says otherwise."""
    made = []

    def make(*, boot=True, seed=0, config=config, stale=None, **options):
        dram = HookedDram(config.bus.window_base, config.bus.window_bytes)
        options.setdefault("entropy", RandomSource(seed))
        if engine == "gates":
            assert config == make_config()
            options["engine"] = Gates()
            made.append((options["engine"], tiny_program(config, stale=stale)))
        monitor = Monitor(config, dram, identity=identity, **options)
        if boot:
            monitor.boot()
            assert monitor.state is State.IDLE
        return Host(monitor.execute, dram, tiny_program(config, stale=stale)), monitor

    yield make
    for gates, program in made:
        gates.check(program.plaintexts)


@pytest.fixture(scope="session")
def kit():
    """Return this file's names: test modules cannot import it."""
    return types.SimpleNamespace(
        Host=Host,
        Owner=Owner,
        HookedDram=HookedDram,
        expected_registers=expected_registers,
        make_config=make_config,
        objects=objects,
        reachable=reachable,
        snapshot=snapshot,
        tiny_program=tiny_program,
        interleave=interleave,
        open_sealed=open_sealed,
        spans=spans,
        seal=seal,
        PROGRAM=PROGRAM,
        UOPS=UOPS,
        BIAS=BIAS,
        OPEN_WEIGHTS=OPEN_WEIGHTS,
        MEASURED_WEIGHTS=MEASURED_WEIGHTS,
        INPUT=INPUT,
        OUTPUT=OUTPUT,
        MODEL_SLOT=MODEL_SLOT,
        INPUT_SLOT=INPUT_SLOT,
        OUTPUT_SLOT=OUTPUT_SLOT,
        USES=USES,
    )
