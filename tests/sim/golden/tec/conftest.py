"""A small protected session: a tensor of every kind, their owners, the adversary's hands."""

import functools
import gc
import random
import types
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import pytest
from Crypto.Cipher import AES

from ginseng.bench.engine import TransferTec, tec_model, wipe_ends
from ginseng.golden.dram import Dram
from ginseng.golden.port import Fatal, Transfer
from ginseng.golden.tec import Tec
from ginseng.isa.config import BusConfig, BusProtocol, Memory, SystemConfig, TecConfig
from ginseng.isa.formats import TAG_BYTES, chunk_count, chunk_nonce, chunk_place, sealed_bytes
from ginseng.isa.mailbox import Refusal
from ginseng.isa.table import TENSOR_ROW, Domain, Permission, SlotUse, Source
from ginseng.isa.transfer import Client

R, W, X = Permission.R, Permission.W, Permission.X
STATIC, SESSION = 1, 2


def seal(key, domain, handle, version, chunk, plaintext):
    """An owner's tool on another library than the model's: chunks, each with its tag behind it."""
    out = b""
    for index in range(chunk_count(len(plaintext), chunk)):
        nonce = chunk_nonce(domain, handle, version, index)
        piece = plaintext[index * chunk : (index + 1) * chunk]
        ciphertext, tag = AES.new(key, AES.MODE_GCM, nonce=nonce).encrypt_and_digest(piece)
        out += ciphertext + tag
    return out


def unseal(key, domain, handle, version, chunk, sealed):
    """The reverse; ValueError if a chunk does not open."""
    out = b""
    for index, at in enumerate(range(0, len(sealed), chunk + TAG_BYTES)):
        nonce = chunk_nonce(domain, handle, version, index)
        piece = sealed[at : at + chunk + TAG_BYTES]
        cipher = AES.new(key, AES.MODE_GCM, nonce=nonce)
        out += cipher.decrypt_and_verify(piece[:-TAG_BYTES], piece[-TAG_BYTES:])
    return out


def reachable_bytes(root):
    """Everything that holds bytes and can be reached from ``root`` through Python objects."""
    seen, todo, found = set(), [root], []
    while todo:
        thing = todo.pop()
        if id(thing) in seen or isinstance(thing, type | types.ModuleType | types.FunctionType):
            continue
        seen.add(id(thing))
        if isinstance(thing, bytes | bytearray | np.ndarray):
            found.append(bytes(thing))
        todo += gc.get_referents(thing)
    return found


@dataclass
class Tensor:
    """One row, what its owner put into it, and where everything stands."""

    handle: int
    fields: dict
    plaintext: bytes = b""
    source: int = 0
    #: Version under which an owner sealed it.
    version: int = 0
    chunk: int = field(init=False)
    length: int = field(init=False)

    def __post_init__(self):
        self.chunk, self.length = self.fields["chunk"], self.fields["length"]

    @property
    def chunks(self):
        return chunk_count(self.length, self.chunk)

    @property
    def word(self):
        return TENSOR_ROW.pack(**self.fields)


class Scene:
    """A session from BEGIN on, through public methods only.

    Every tensor has the same shape, so that the adversary can exchange any two.
    """

    LENGTH, CHUNK, WINDOW = 4 * 64 + 32, 64, 1 << 16
    CONFIG = SystemConfig(bus=BusConfig(window_bytes=WINDOW))
    #: Whether loads can be verified later than on return; and trials of a random campaign.
    LAZINESS, TRIALS = (False, True), 10_000
    #: What is told of a tag that does not fit.
    FAULT = "tag"
    #: name: domain, permissions, slot, measured, source, version of the row
    KINDS: ClassVar = {
        "program": (Domain.PROGRAM, R | X, 0, 1, Source.PLAIN, 0),
        "micro-ops": (Domain.PROGRAM, R, 0, 1, Source.PLAIN, 0),
        "weights": (Domain.WEIGHTS, R, STATIC, 0, Source.SEALED, 7),
        "measured weights": (Domain.WEIGHTS, R, STATIC, 1, Source.SEALED, 9),
        "bias": (Domain.WEIGHTS, R, 0, 1, Source.PLAIN, 0),
        "input": (Domain.IMPORT, R, SESSION, 0, Source.SEALED, 0),
        "scratch": (Domain.SCRATCH, R | W, 0, 0, Source.SEALED, 0),
        "output": (Domain.EXPORT, W, SESSION, 1, Source.SEALED, 0),
    }
    READ: ClassVar = [name for name in KINDS if name != "output"]

    def __init__(self, seed=0, *, lazy=False, limits=None, config=None, dram=None, kinds=KINDS):
        self.config = config or self.CONFIG
        self.key_bytes = self.config.tec.key_bytes
        bus = self.config.bus
        self.dram = Dram(bus.window_base, bus.window_bytes) if dram is None else dram
        rng = random.Random(seed)
        self.k_mem, static, session = (rng.randbytes(self.key_bytes) for _ in range(3))
        self.keys = {0: self.k_mem, STATIC: static, SESSION: session}
        self.tensors = {}
        for handle, (name, kind) in enumerate(kinds.items()):
            fields = dict(
                zip(
                    ("domain", "permissions", "slot", "measured", "source", "version"),
                    map(int, kind),
                    strict=True,
                ),
                length=self.LENGTH,
                chunk=self.CHUNK,
                base=bus.window_base + 0x1000 + 0x400 * handle,
            )
            tensor = Tensor(handle, fields, rng.randbytes(self.LENGTH), version=kind[5])
            tensor.source = bus.window_base + 0x8000 + 0x400 * handle
            self.tensors[name] = tensor
        self.rng = rng
        self.tec = self.make_tec(lazy, limits)

    def make_tec(self, lazy, limits):
        return Tec(self.config, self.dram, lazy=lazy, limits=limits)

    def forged(self):
        """What a tag that does not fit leads to; gates do not tell the cause."""
        return pytest.raises(Fatal, match=self.FAULT)

    def __getitem__(self, name):
        return self.tensors[name]

    def configure(self):
        """BEGIN to LOCK, with the plain imports; return what each import gave to be measured."""
        tec = self.tec
        tec.begin(self.k_mem)
        assert tec.declare_slot(STATIC, SlotUse.STATIC) is Refusal.NONE
        assert tec.declare_slot(SESSION, SlotUse.SESSION) is Refusal.NONE
        measured = {}
        for tensor in self.tensors.values():
            assert tec.load_row(tensor.handle, tensor.word) is Refusal.NONE
        for name, tensor in self.tensors.items():
            if tensor.fields["source"] == Source.PLAIN:
                self.dram.write(tensor.source, tensor.plaintext)
                assert tec.check_import(tensor.handle, tensor.source) is Refusal.NONE
                measured[name] = tec.import_plain(tensor.handle, tensor.source)
        assert tec.lock(self["program"].handle) is Refusal.NONE
        return measured

    def release(self):
        """The owners load their keys and place their tensors; sealed imports are done."""
        for slot in (STATIC, SESSION):
            assert self.tec.load_key(slot, self.keys[slot]) is Refusal.NONE
        measured = {}
        for name, tensor in self.tensors.items():
            if tensor.fields["domain"] != Domain.WEIGHTS or tensor.fields["source"]:
                continue
            if tensor.fields["measured"]:
                self.place(name, tensor.source)
                arguments = tensor.handle, tensor.source
                assert self.tec.check_import(*arguments) is Refusal.NONE
                measured[name] = self.tec.import_sealed(*arguments)
            else:
                self.place(name)
        return measured

    def ready(self):
        self.configure()
        self.release()
        if "input" in self.tensors:
            self.offer(1)
        return self

    def offer(self, run, plaintext=None):
        """The client seals its input for one run."""
        tensor = self["input"]
        tensor.version = run
        if plaintext is not None:
            tensor.plaintext = plaintext
        self.place("input")

    def place(self, name, base=None):
        tensor = self[name]
        fields = tensor.fields
        sealed = seal(
            self.keys[fields["slot"]],
            fields["domain"],
            tensor.handle,
            tensor.version,
            tensor.chunk,
            tensor.plaintext,
        )
        self.dram.write(fields["base"] if base is None else base, sealed)

    def address(self, name, element=0):
        """``dram_base`` of an element of a tensor."""
        return self[name].handle << self.config.tec.offset_bits | element

    def load(self, name, element=0, count=None, rows=1, stride=0):
        """Load 16-byte elements (all by default) by the client that such a tensor is for."""
        count = self[name].length // 16 if count is None else count
        client, memory, scale = {
            "program": (Client.FETCH, Memory.UOP, 1),
            "micro-ops": (Client.COMPUTE, Memory.UOP, 4),
            "bias": (Client.COMPUTE, Memory.ACC_8BIT, 1),
        }.get(name, (Client.INP, Memory.INP, 1))
        transfer = Transfer(
            memory, self.address(name, element * scale), rows, count * scale, stride * scale
        )
        return self.tec.read(client, transfer).tobytes()

    def store(self, name, data, element=0, sample=None):
        """Store 16-byte elements as the core does: once its barrier's sample is verified."""
        if sample is None:
            sample = self.tec.issued
            while self.tec.verified < sample:
                self.tec.settle()
        count = len(data) // 16
        transfer = Transfer(Memory.OUT, self.address(name, element), 1, count, count)
        self.tec.write(transfer, np.frombuffer(data, np.uint8), sample)

    def run(self, number=1, middle=lambda: None):
        """Load everything, compute a scratch tensor, reload it, export it; return what was loaded.

        ``middle`` is called between the store of the scratch tensor and its load.
        """
        self.tec.start_run(number)
        loaded = {name: self.load(name) for name in self.READ if name != "scratch"}
        total = sum(np.frombuffer(data, np.uint8) for data in loaded.values())
        self.scratch = total.astype(np.uint8).tobytes()
        self.store("scratch", self.scratch)
        middle()
        loaded["scratch"] = self.load("scratch")
        self.output = loaded["scratch"][::-1]
        self.store("output", self.output)
        self.stream = self.tec.finish_run()
        return loaded

    def spans(self, name, index=None):
        """Indices of the data and tags of a tensor, or of one chunk, in ``dram.bytes``."""
        tensor = self[name]
        base = tensor.fields["base"] - self.config.bus.window_base
        data, tags = [], []
        for n in range(tensor.chunks) if index is None else [index]:
            at = base + chunk_place(n, tensor.chunk)
            end = at + min(tensor.chunk, tensor.length - n * tensor.chunk)
            data += range(at, end)
            tags += range(end, end + TAG_BYTES)
        return np.array(data), np.array(tags)

    def sealed(self, name):
        """What stands there now, as an owner takes it."""
        tensor = self[name]
        base = tensor.fields["base"] - self.config.bus.window_base
        return self.dram.bytes[base : base + sealed_bytes(tensor.length, tensor.chunk)].tobytes()

    def copy(self, name, index=None):
        """What stands there now: data and tags."""
        return tuple(self.dram.bytes[span].copy() for span in self.spans(name, index))

    def paste(self, name, copied, index=None):
        for span, bytes_ in zip(self.spans(name, index), copied, strict=True):
            self.dram.bytes[span] = bytes_

    def open_output(self, run):
        """The client opens result ``run``; ValueError if it does not."""
        tensor = self["output"]
        return unseal(
            self.keys[SESSION],
            tensor.fields["domain"],
            tensor.handle,
            run,
            tensor.chunk,
            self.sealed("output"),
        )

    def assert_stopped(self):
        """Fail-stop: every method says so, DRAM stays as it is, no key is left."""
        before = self.dram.bytes.copy()
        transfer = Transfer(Memory.OUT, self.address("output"), 1, 1, 1)
        for attempt in (
            lambda: self.tec.begin(self.k_mem),
            lambda: self.tec.declare_slot(3, SlotUse.STATIC),
            lambda: self.tec.load_row(20, self["scratch"].word),
            lambda: self.tec.load_key(STATIC, self.keys[STATIC]),
            lambda: self.tec.check_import(0, 0),
            lambda: self.tec.import_plain(0, self["program"].source),
            lambda: self.tec.import_sealed(3, 0),
            lambda: self.tec.check_lock(0),
            lambda: self.tec.lock(0),
            lambda: self.tec.check_run(),
            lambda: self.tec.start_run(9),
            lambda: self.tec.finish_run(),
            lambda: self.tec.rows(),
            lambda: self.tec.length(0),
            lambda: self.tec.issued,
            lambda: self.tec.verified,
            lambda: self.tec.settle(),
            lambda: self.load("weights", 0, 1),
            lambda: self.tec.write(transfer, np.zeros(16, np.uint8), 0),
        ):
            with pytest.raises(Fatal, match=r"^dead$"):
                attempt()
        assert np.array_equal(self.dram.bytes, before)
        left = reachable_bytes(self.tec)
        assert not any(key in held for key in self.keys.values() for held in left)


class GatesScene(Scene):
    """The same with the TEC in gates."""

    WINDOW = 1 << 18
    #: The build of tests/hw/tec/test_tec_core.py.
    CONFIG = SystemConfig(
        bus=BusConfig(protocol=BusProtocol.AXI4, window_bytes=WINDOW),
        tec=TecConfig(bitmap_bits=4096),
    )
    LAZINESS, TRIALS = (False,), 1_000
    FAULT = "fault of the gates"

    def make_tec(self, lazy, limits):
        assert not lazy, "gates verify when they can"
        assert limits is None
        assert self.config is self.CONFIG
        return TransferTec(self.config, self.dram, built=_built())

    def assert_stopped(self):
        """Fail-stop: no command and no transfer is taken, nothing is written, nothing is left."""
        before = self.dram.bytes.copy()
        assert wipe_ends(self.tec.model)
        for attempt in (
            lambda: self.tec.load_key(STATIC, self.keys[STATIC]),
            lambda: self.tec.check_import(0, 0),
            lambda: self.tec.check_run(),
            lambda: self.tec.finish_run(),
            lambda: self.load("weights", 0, 1),
            lambda: self.store("output", bytes(16), sample=0),
        ):
            with pytest.raises(Fatal):
                attempt()
        self.tec.model.run(2_000)
        assert self.tec.model.traffic
        # The beat that was offered at the fault is released ciphertext, and stays offered.
        changed = np.flatnonzero(self.dram.bytes != before)
        assert len(set(changed // self.config.bus.beat_bytes)) <= 1


@functools.cache
def _built():
    return tec_model(GatesScene.CONFIG).built


@pytest.fixture
def scene_of(engine):
    """Make scenes: the class itself."""
    return GatesScene if engine == "gates" else Scene


@pytest.fixture(scope="session")
def owner():
    """The owner's seal and unseal."""
    return types.SimpleNamespace(seal=seal, unseal=unseal)


@pytest.fixture(scope="session")
def held_by():
    """What bytes an object reaches."""
    return reachable_bytes
