"""Where keys and plaintext get to in the whole tensor encryption core, as it is built."""

from abc import abstractmethod

from amaranth import Module

from ginseng.bench.formal.harness import Harness
from ginseng.bench.formal.proof import Bug, Engine, Proof
from ginseng.bench.formal.taint import Secret
from ginseng.bus.shapes import READERS
from ginseng.isa.config import SystemConfig, TecConfig
from ginseng.tec.control import ControlOp
from ginseng.tec.core import Tec

#: What compares tags: one bit of each chunk, whether it is as it was written, is public.
VERDICTS = ("dut.reads.verifier.valid", "dut.reads.verifier.fault", "dut.writes.differs")
#: Where beats meet their pads.
MIXER = "dut.lane.mixer"
MIXED, TAG = f"{MIXER}.mixed", "dut.lane.tags.o_tag"
#: A beat, or what GHASH gets of it, after its pad.
CIPHERTEXT = (MIXED, f"{MIXER}.padded_0", f"{MIXER}.padded_1")
COMMANDS = {op: {"dut.command__payload.op": op.value} for op in (ControlOp.BEGIN, ControlOp.KEY)}
KEY = "dut.command__payload.row"
STORED = "dut.memory__store__beat__payload"
READ = "dut.axi__r__payload.data"
MEASURED = "dut.measured__payload"


class Whole(Harness):
    """The core, any input in any cycle."""

    reset = True

    def build(self, m: Module) -> None:
        m.submodules.dut = dut = Tec(SystemConfig(tec=TecConfig()))
        outputs = [f"dut.{name}" for name in self.open(dut)]
        self.say(outputs)

    @abstractmethod
    def say(self, outputs: list[str]) -> None:
        """Name the secrets."""


class ConstantTime(Whole):
    def say(self, outputs):
        values = {f"dut.memory__{port.name.lower()}__beat__payload" for port in READERS}
        values |= {"dut.axi__w__payload", MEASURED}
        sinks = [name for name in outputs if name not in values]
        sinks += [f"dut.axi__w__payload.{field}" for field in ("id", "strobe", "last")]
        sinks += [f"{MEASURED}.nbytes"]
        common = {"sinks": tuple(sinks), "cuts": VERDICTS}
        reaches = ("dut.axi__w__payload.data", "dut.memory__inp__beat__payload")
        self.secrets += [
            Secret(name=f"key of {op.name}", sources=(KEY,), when=when, reaches=reaches, **common)
            for op, when in COMMANDS.items()
        ]
        self.secrets += [
            Secret(name="beat of a store", sources=(STORED,), reaches=reaches, **common),
            Secret(name="beat from memory", sources=(READ,), reaches=reaches, **common),
        ]


class Sealed(Whole):
    def say(self, outputs):
        sinks = tuple(name for name in outputs if name.startswith("dut.axi__"))
        into, out = f"{MIXER}.i__payload", f"{MIXER}.o_data"
        self.secrets += [
            Secret(
                name="beat of a store",
                sources=(STORED,),
                sinks=sinks,
                cuts=(*VERDICTS, into),
                reaches=(into,),
            ),
            Secret(
                name="beat that the lane seals",
                sources=(into,),
                sinks=sinks,
                when={f"{MIXER}.order.seals": 1},
                cuts=(*VERDICTS, *CIPHERTEXT),
                reaches=CIPHERTEXT,
            ),
            Secret(
                name="beat that the lane opened",
                sources=(out,),
                sinks=sinks,
                when={f"{MIXER}.o_seals": 0},
                # Each beat is its own secret in its own cycle; one that is sealed is the one above.
                cuts=(*VERDICTS, out, into),
                reaches=(into, "dut.memory__inp__beat__payload"),
            ),
        ]
        self.secrets += [
            Secret(
                name=f"key of {op.name}",
                sources=(KEY,),
                sinks=sinks,
                when=when,
                cuts=(*VERDICTS, MIXED, TAG),
                reaches=(MIXED, TAG),
            )
            for op, when in COMMANDS.items()
        ]


CONFIGURATION = "the tensor encryption core as it is built for the xc7z020, every gate of it"
GENERALISES = (
    "it is about the netlist that is built; other sizes are not shown, and have the same source"
)
TRUSTED = (
    "that tags agree is public",
    "a clock that is not stopped",
)

PROOFS = [
    Proof(
        name="constant-time",
        claim="No address, length, strobe, valid, ready, completion, answer or count depends on a "
        "key or on data, but through whether a tag agrees (P10)",
        harness=ConstantTime,
        configuration=CONFIGURATION,
        generalises=GENERALISES,
        assumptions=TRUSTED,
        engine=Engine.TAINT,
        quick=True,
        bugs=(
            Bug(
                name="a bit of a stored beat is in the address",
                module="ginseng.tec.sink",
                old="self.aw.p.eq(request),",
                new="self.aw.p.eq(request), self.aw.p.address[3].eq(self.o_data[0]),",
            ),
            Bug(
                name="GHASH is done at once with a block of zeros",
                module="ginseng.crypto.ghash",
                old="with m.If(lower):\n            m.d.sync += summed",
                new="with m.If(lower | (splits & (x == 0))):\n            m.d.sync += summed",
            ),
            Bug(
                name="a key stays where rows are",
                module="ginseng.tec.control",
                old="            with m.Else():\n                m.d.sync += held.row.eq(",
                new="            with m.If(1):\n                m.d.sync += held.row.eq(",
            ),
            Bug(
                name="a beat of zeros has no strobe",
                module="ginseng.tec.sink",
                old="self.w.p.strobe.eq(strobe)]",
                new="self.w.p.strobe.eq(Mux(beat == 0, 0, strobe))]",
            ),
            Bug(
                name="idle only after a beat of zeros",
                module="ginseng.tec.read",
                old="self.idle.eq(opened == 0),",
                new="self.idle.eq((opened == 0) & (self.lane.o_data == 0)),",
            ),
        ),
    ),
    Proof(
        name="sealed",
        sec=("TEC.CIPHERTEXT_ONLY",),
        claim="Plaintext and keys get to memory only through the sum of a beat and its pad, and "
        "through the tag of what was encrypted (P11)",
        harness=Sealed,
        configuration=CONFIGURATION,
        generalises=GENERALISES,
        assumptions=(
            *TRUSTED,
            "beats of a store belong to jobs that seal (shown by tests of the write path)",
            "the pad is AES in counter mode and the tag is GHASH (shown by vectors, in the lane)",
        ),
        engine=Engine.TAINT,
        quick=True,
        bugs=(
            Bug(
                name="what was opened leaves too",
                module="ginseng.tec.write",
                old="sink.o_valid.eq(self.lane.o_valid & self.lane.o_seals),",
                new="sink.o_valid.eq(self.lane.o_valid),",
            ),
            Bug(
                name="GHASH gets the plaintext of what is sealed",
                module="ginseng.crypto.mixer",
                old="Mux(masked | order.seals, padded, self.i.payload)",
                new="Mux(masked, padded, self.i.payload)",
            ),
            Bug(
                name="beats leave as they came",
                module="ginseng.tec.write",
                old="sink.o_data.eq(self.lane.o_data),",
                new="sink.o_data.eq(intake.o.p),",
            ),
            Bug(
                name="a bit of a command's row, or key, is a fault",
                module="ginseng.tec.core",
                old="writes.seal_ok.eq(1),",
                new="writes.seal_ok.eq(self.command.p.row.as_value()[0]),",
            ),
        ),
    ),
]
