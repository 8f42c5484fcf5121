"""The control of the TEC in Verilator, driven as the monitor and the data paths drive it."""

from functools import partial

import pytest

from ginseng.bench.model import Model
from ginseng.isa.codec import Codec
from ginseng.isa.mailbox import Refusal, State
from ginseng.isa.table import Limits
from ginseng.tec.bitmap import Bitmap
from ginseng.tec.control import Control, ControlCommand, ImportPort
from ginseng.tec.keys import KeySlots
from ginseng.tec.shapes import TecShapes

#: Cycles that nothing takes.
LONG = 20_000


class Gates:
    """`Control`, with a lane that takes every key at once."""

    def __init__(self, config, **limits):
        shapes = TecShapes(config)
        ports = Bitmap.transfer_ports(config.tec.bitmap_bits) | KeySlots.transfer_ports(shapes)
        self.codecs = {
            "command": Codec(ControlCommand),
            "entry": Codec(shapes.entry, "entry"),
            **{
                name: Codec(ports[name].signature.members["payload"].shape, name)
                for name in ("test", "begin", "seal")
            },
        }
        self.importing = list(ImportPort(shapes).members)
        make = partial(Control, shapes, Limits(**limits))
        self.model = Model(make, recipe=f"{Control.__module__} {config!r} {limits!r}")
        self.reset()

    def reset(self):
        self.model.reset()
        self.model.set("hash_key__ready", 1)
        self.settle()

    def settle(self):
        """Wait for the end of a wipe."""
        assert self.model.run(LONG, until=["wiped"]) < LONG
        self.model.run(1)

    @property
    def state(self):
        return State(self.model.get("state"))

    def pulse(self, port):
        self.model.set(port, 1)
        self.model.run(1)
        self.model.set(port, 0)

    def wipe(self):
        self.pulse("wipe")
        self.settle()

    def put(self, stream, **fields):
        item = self.codecs[stream].pack(**fields)
        self.model.set(f"{stream}__payload", int.from_bytes(item, "little"))
        assert self.model.run(LONG, until=[f"{stream}__ready"]) < LONG, stream
        self.pulse(f"{stream}__valid")

    def command(self, op, *, row=b"", imports=None, **fields):
        """Return the refusal, or None if there was a fault.

        ``imports`` gets what the import port says, when an import is to be done, and returns
        whether it could be.
        """
        self.put("command", op=op.value, row=int.from_bytes(row, "little"), **fields)
        self.model.run(LONG, until=["answer_valid", "fault", "importing__valid"])
        if self.model.get("importing__valid"):
            said = {name: self.model.get(f"importing__{name}") for name in self.importing}
            if not imports(said | {"entry": self.entry("importing__entry")}):
                assert self.state is State.FATAL
                return None
            self.pulse("importing__done")
            self.model.run(LONG, until=["answer_valid", "fault"])
        if self.model.get("fault"):
            self.model.run(1)
            return None
        assert self.model.get("answer_valid"), f"{op} was not answered"
        refusal = Refusal(self.model.get("answer"))
        self.model.run(1)
        return refusal

    def entry(self, port):
        codec = self.codecs["entry"]
        return codec.unpack(self.model.get(port).to_bytes(codec.nbytes, "little"))

    def lookup(self, handle):
        """Return a row as the planner sees it in a run."""
        assert self.model.get("running")
        self.model.set("lookup__handle", handle)
        self.model.run(1)
        return self.entry("lookup__entry")

    def readable(self, bit):
        self.put("test", bit=bit)
        self.model.run(1)
        assert self.model.get("test_valid")
        return bool(self.model.get("test_readable"))

    def ask(self, stream, answer, **fields):
        """Begin a chunk or count its blocks; return the answer."""
        self.put(stream, **fields)
        self.model.run(1)
        assert self.model.get(f"{stream}_valid")
        good = bool(self.model.get(answer))
        # What is not good is a fault in the same cycle.
        assert bool(self.model.get("fault")) != good
        self.model.run(1)
        return good


@pytest.fixture(scope="session")
def gates_of():
    """Make gates: the class itself."""
    return Gates
