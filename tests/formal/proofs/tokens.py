"""Tokens: none made up, none lost, each instruction to its queue, pushes in order."""

from unittest.mock import patch

from amaranth import Cat, Module, Mux, Signal
from amaranth.hdl import Assert, Assume, Cover
from amaranth.lib import data

from ginseng.bench.formal.harness import Harness
from ginseng.bench.formal.proof import Bug, Proof
from ginseng.isa.config import Memory
from ginseng.isa.insn import TOKEN_LIMIT, MemInsn, Opcode
from ginseng.vta import tokens as tokens_module
from ginseng.vta.dispatch import Dispatch
from ginseng.vta.retire import Retire
from ginseng.vta.tokens import TokenCounter


class Conserved(Harness):
    """A counter beside one that is wider and knows no limit but the rule."""

    def __init__(self, limit):
        super().__init__()
        self.limit = limit

    def build(self, m: Module) -> None:
        dut = TokenCounter()
        with patch.object(tokens_module, "TOKEN_LIMIT", self.limit):
            m.submodules.dut = dut.elaborate(None)
        push, pop = self.free("push"), self.free("pop")
        m.d.comb += [dut.push.eq(push), dut.pop.eq(pop), Assume(dut.available | ~pop)]
        tokens, lost = Signal(range(2 * self.limit + 1)), Signal()
        with m.If(push & ~pop & (tokens == self.limit)):
            m.d.sync += lost.eq(1)
        with m.Else():
            m.d.sync += tokens.eq(tokens + push - pop)
        m.d.comb += [
            Assert(tokens <= self.limit),
            Assert(dut.available == (tokens != 0)),
            Assert(dut.fault == lost),
            Cover(dut.available & (tokens == 3) & pop),
        ]


class Routed(Harness):
    """`Dispatch`, against the rule of the specification written out again."""

    def build(self, m: Module) -> None:
        m.submodules.dut = dut = Dispatch()
        self.feed(m, dut.i, "i")
        outputs = {"load": dut.o_load, "compute": dut.o_compute, "store": dut.o_store}
        for name, output in outputs.items():
            self.drain(m, output, name)
        insn = data.View(MemInsn, dut.i.payload)
        nothing = insn.x_size == 0
        scratchpad = (insn.memory == Memory.INP) | (insn.memory == Memory.WGT)
        other = (
            (insn.memory == Memory.UOP)
            | (insn.memory == Memory.ACC)
            | (insn.memory == Memory.ACC_8BIT)
        )
        is_load, is_store = insn.opcode == Opcode.LOAD, insn.opcode == Opcode.STORE
        wanted = Signal(3)
        m.d.comb += wanted.eq(
            Cat(
                is_load & scratchpad,
                (is_load & ~scratchpad & (nothing | other))
                | (insn.opcode == Opcode.GEMM)
                | (insn.opcode == Opcode.ALU)
                | (insn.opcode == Opcode.FINISH),
                is_store & (nothing | (insn.memory == Memory.OUT)),
            )
        )
        valid = Cat(output.valid for output in outputs.values())
        moved = Cat(output.valid & output.ready for output in outputs.values())
        met = Signal()
        m.d.sync += met.eq(met | (dut.i.valid & (wanted == 0)))
        m.d.comb += [
            Assert(dut.fault == met),
            Assert(valid == Mux(dut.i.valid & ~dut.fault, wanted, 0)),
            # Taken exactly where it is given.
            Assert((dut.i.valid & dut.i.ready) == moved.any()),
            *(Assert(output.payload == dut.i.payload) for output in outputs.values()),
            *(Cover(moved[n]) for n in range(3)),
            Cover(dut.fault & dut.i.valid),
        ]


class Retired(Harness):
    """`Retire` with two kinds of events: in order, after their events, tokens as they came."""

    EVENTS, DEPTH = 2, 3

    def build(self, m: Module) -> None:
        m.submodules.dut = dut = Retire(self.EVENTS, self.DEPTH)
        self.feed(m, dut.i, "i")
        events = self.free("events", self.EVENTS)
        m.d.comb += [dut.event.eq(events), dut.halt.eq(self.free("halt"))]
        started = dut.i.valid & dut.i.ready
        inside = self.check_order(
            m,
            put=started,
            item=Cat(dut.i.p.push_prev, dut.i.p.push_next),
            take=dut.retired,
            result=Cat(dut.push_prev, dut.push_next),
            capacity=self.DEPTH,
            name="order",
        )
        # Beside it: what the instructions inside wait for, the oldest first, and per kind the
        # events still to come and those that came.
        waits = [Signal(self.EVENTS, name=f"waits_{n}") for n in range(self.DEPTH + 1)]
        for n, held in enumerate(waits[:-1]):
            with m.If(started & (inside - dut.retired == n)):
                m.d.sync += held.eq(dut.i.p.waits)
            with m.Elif(dut.retired):
                m.d.sync += held.eq(waits[n + 1])
        met = [~dut.halt, inside != 0]
        for kind in range(self.EVENTS):
            owed, came = (
                Signal(range(self.DEPTH + 2), name=f"{n}_{kind}") for n in ("owed", "came")
            )
            taken = dut.retired & waits[0][kind]
            m.d.comb += Assume(~events[kind] | (owed != 0))
            m.d.sync += [
                owed.eq(owed + (started & dut.i.p.waits[kind]) - events[kind]),
                came.eq(came + events[kind] - taken),
            ]
            met.append(~waits[0][kind] | (came != 0))
        m.d.comb += [
            Assert(dut.retired == Cat(met).all()),
            Assert(dut.empty == (inside == 0)),
            Assert(dut.retired | ~(dut.push_prev | dut.push_next)),
        ]


class Balanced(Harness):
    """Two queues behind `Dispatch`, as the core wires them: load and compute, a counter each way.

    An instruction starts once its tokens are there, pops them, and is handed to `Retire`.
    """

    DEPTH = 2

    def build(self, m: Module) -> None:
        m.submodules.dispatch = dispatch = Dispatch()
        self.feed(m, dispatch.i, "i")
        self.drain(m, dispatch.o_store, "store")
        counters = [TokenCounter(), TokenCounter()]
        retires = [Retire(1, self.DEPTH), Retire(1, self.DEPTH)]
        m.submodules.forward, m.submodules.back = counters
        m.submodules.load, m.submodules.compute = retires
        sides = (
            (dispatch.o_load, "pop_next", "push_next", counters[1], counters[0], retires[0]),
            (dispatch.o_compute, "pop_prev", "push_prev", counters[0], counters[1], retires[1]),
        )
        for n, (queue, pop, push, source, sink, retire) in enumerate(sides):
            insn = data.View(MemInsn, queue.payload)
            pops, pushes, started = Signal(), Signal(), Signal()
            # The store queue's tokens are not part of this.
            m.d.comb += [
                pops.eq(insn[pop]),
                pushes.eq(insn[push]),
                retire.i.valid.eq(queue.valid & (~pops | source.available)),
                retire.i.p.waits.eq(1),
                getattr(retire.i.p, push).eq(pushes),
                queue.ready.eq(retire.i.ready & (~pops | source.available)),
                started.eq(queue.valid & queue.ready),
                source.pop.eq(started & pops),
                sink.push.eq(retire.push_next if n == 0 else retire.push_prev),
                retire.event.eq(self.free(f"event_{n}")),
                retire.halt.eq(self.free(f"halt_{n}")),
            ]
            # Instructions under way that will push, by what is dispatched and what retires.
            owing = [Signal(name=f"owing_{n}_{k}") for k in range(self.DEPTH + 1)]
            inside = Signal(range(self.DEPTH + 1), name=f"inside_{n}")
            waiting = Signal(range(self.DEPTH + 1), name=f"waiting_{n}")
            event = retire.event[0]
            for k, held in enumerate(owing[:-1]):
                with m.If(started & (inside - retire.retired == k)):
                    m.d.sync += held.eq(pushes)
                with m.Elif(retire.retired):
                    m.d.sync += held.eq(owing[k + 1])
            m.d.sync += [
                inside.eq(inside + started - retire.retired),
                waiting.eq(waiting + started - event),
            ]
            m.d.comb += [
                Assume(~event | (waiting != 0)),
                # What starts here is what is dispatched.
                Assert(started == (dispatch.i.valid & dispatch.i.ready & queue.valid)),
            ]
            # Pushed and not popped, never below nothing, is what the counter says.
            pushed = retire.retired & owing[0]
            there = Signal(4, name=f"there_{n}")
            gone = sides[1 - n][3].pop
            m.d.sync += there.eq(there + pushed - gone)
            m.d.comb += [
                Assume(there < 12),
                Assert(sink.push == pushed),
                Assert(sink.available == (there != 0)),
                Assert(~gone | (there != 0)),
                Assert(~sink.fault),
                Assert(inside <= self.DEPTH),
                Cover(gone & pushed),
            ]


TOKENS, DISPATCH, RETIRE = "ginseng.vta.tokens", "ginseng.vta.dispatch", "ginseng.vta.retire"

PROOFS = [
    Proof(
        name="tokens",
        claim="Tokens are there exactly while more were pushed than popped, and none is lost",
        harness=lambda: Conserved(TOKEN_LIMIT),
        configuration=f"limit {TOKEN_LIMIT}",
        generalises="the core has no other counter",
        assumptions=("a token is popped only while one is available",),
        bugs=(
            Bug(
                name="a push is lost while a token is popped",
                module=TOKENS,
                old="with m.Elif(self.pop & ~self.push):",
                new="with m.Elif(self.pop):",
            ),
            Bug(
                name="a token can be popped before it is pushed",
                module=TOKENS,
                old="self.available.eq(count != 0)",
                new="self.available.eq((count != 0) | self.push)",
            ),
        ),
        quick=True,
    ),
    Proof(
        name="tokens-limit",
        claim="A push beyond the limit is a fault for ever and changes nothing else",
        harness=lambda: Conserved(5),
        configuration="limit 5 instead of 65,535, so that a trace reaches it",
        generalises="the limit is compared with and nothing else; `tokens` is the real one",
        assumptions=("a token is popped only while one is available",),
        bugs=(
            Bug(
                name="the counter saturates silently",
                module=TOKENS,
                old="m.d.sync += self.fault.eq(1)",
                new="m.d.sync += self.fault.eq(0)",
            ),
            Bug(
                name="the counter wraps",
                module=TOKENS,
                old="with m.If(count == TOKEN_LIMIT):",
                new="with m.If(count == TOKEN_LIMIT + 1):",
            ),
        ),
    ),
    Proof(
        name="dispatch",
        claim="Each instruction goes to the one queue that the specification names, unchanged; "
        "an illegal one to none, and nothing after it",
        harness=Routed,
        configuration="whole",
        generalises="it has no parameter",
        assumptions=("the producer holds an offer until it is taken",),
        bugs=(
            Bug(
                name="a no-op STORE of another memory is refused",
                module=DISPATCH,
                old="with m.If(moves & (insn.memory != Memory.OUT)):",
                new="with m.If(insn.memory != Memory.OUT):",
            ),
            Bug(
                name="an instruction is taken that no queue takes",
                module=DISPATCH,
                old="self.i.ready.eq(outputs[queue].ready & ~self.fault)",
                new="self.i.ready.eq(~self.fault)",
            ),
            Bug(
                name="weights go to the compute queue",
                module=DISPATCH,
                old="to_load = (insn.memory == Memory.INP) | (insn.memory == Memory.WGT)",
                new="to_load = insn.memory == Memory.INP",
            ),
            Bug(
                name="an illegal instruction waits without a fault",
                module=DISPATCH,
                old="self.fault.eq(self.fault | self.i.valid)",
                new="self.fault.eq(self.fault & self.i.valid)",
            ),
        ),
        quick=True,
    ),
    Proof(
        name="retire",
        claim="Instructions retire in order, exactly when all their events have come, and push "
        "exactly their own tokens, once",
        harness=Retired,
        configuration="2 kinds of events, 3 instructions",
        generalises="kinds are counted one like the other; depth is the queue's (see queue)",
        assumptions=(
            "the producer holds an offer until it is taken",
            "an event belongs to an instruction under way that waits for it",
        ),
        bugs=(
            Bug(
                name="one kind of event is not waited for",
                module=RETIRE,
                old="with m.If(head.waits[n] & (count == 0)):",
                new="with m.If(head.waits[0] & (count == 0)):",
            ),
            Bug(
                name="an event is used twice",
                module=RETIRE,
                old="- (self.retired & head.waits[n]))",
                new="- (self.retired & head.waits[0]))",
            ),
            Bug(
                name="tokens are pushed while halted",
                module=RETIRE,
                old="self.retired.eq(queue.o.valid & met & ~self.halt)",
                new="self.retired.eq(queue.o.valid & met)",
            ),
            Bug(
                name="a token is pushed the wrong way",
                module=RETIRE,
                old="self.push_next.eq(self.retired & head.push_next)",
                new="self.push_next.eq(self.retired & head.push_prev)",
            ),
        ),
        quick=True,
    ),
    Proof(
        name="tokens-balance",
        claim="Tokens pushed are those popped and those in the counters, from dispatch to "
        "retirement: each instruction dispatched pops its own and pushes its own, once",
        harness=Balanced,
        configuration="load and compute queues, 2 instructions under way in each, one kind of "
        "event, fewer than 12 tokens in a counter",
        generalises="store and compute are wired in the same way; `tokens-limit` has the limit",
        assumptions=(
            "the producer holds an offer until it is taken",
            "an event belongs to an instruction under way",
            "queues start an instruction once its tokens are there, and pop them then",
        ),
        depth=14,
        bugs=(
            Bug(
                name="a push is lost while a token is popped",
                module=TOKENS,
                old="with m.Elif(self.pop & ~self.push):",
                new="with m.Elif(self.pop):",
            ),
            Bug(
                name="tokens are pushed again while halted",
                module=RETIRE,
                old="self.push_next.eq(self.retired & head.push_next)",
                new="self.push_next.eq(queue.o.valid & met & head.push_next)",
            ),
            Bug(
                name="an instruction is dispatched twice",
                module=DISPATCH,
                old="self.i.ready.eq(outputs[queue].ready & ~self.fault)",
                new="self.i.ready.eq(0)",
            ),
        ),
    ),
]
