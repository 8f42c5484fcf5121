"""What stands around a component in a proof: free inputs, and checkers of streams."""

from abc import ABC, abstractmethod
from typing import Any

from amaranth import ClockDomain, Module, Shape, Signal
from amaranth.hdl import Assert, Assume, Cover
from amaranth.lib import wiring

from ginseng.bench.formal.taint import Secret

__all__ = ["Harness"]


class Harness(ABC):
    """Base of the harnesses: write `build`, which gets the module.

    There is one clock domain, and no reset but the initial state unless `reset` is set. Inner
    signals are named by the path of their submodules, after those of the harness.
    """

    #: Whether the domain has a reset, at any time.
    reset = False

    def __init__(self) -> None:
        #: Free inputs and kept outputs; parts that are elaborated later may add to them.
        self.ports: list[Signal] = []
        self.peeks: dict[str, str] = {}
        self.cuts: list[str] = []
        #: For `Engine.TAINT`.
        self.secrets: list[Secret] = []

    @abstractmethod
    def build(self, m: Module) -> None:
        """Add the component, its surroundings and its properties to ``m``."""

    def elaborate(self) -> Module:
        """Return the module of `build`, with its clock domain; once only."""
        m = Module()
        m.domains.sync = domain = ClockDomain("sync", reset_less=not self.reset)
        self.ports += [domain.clk, *([domain.rst] if self.reset else [])]
        self.build(m)
        return m

    def free(self, name: str, shape: Any = 1) -> Any:
        """Return a signal of any value in every cycle."""
        signal = Signal(shape, name=name)
        self.ports.append(_value(signal))
        return signal

    def open(self, component: Any) -> list[str]:
        """Make every input of a component free, keep its outputs, and return their names."""
        names = []
        for path, member, value in component.signature.flatten(component):
            self.ports.append(_value(value))
            if member.flow is wiring.Out:
                names.append("__".join(str(part) for part in path))
        return names

    def peek(self, path: str, shape: Any = 1) -> Any:
        """Return what an inner signal carries, ``dut.queue.level``; for invariants.

        Properties are about ports; an induction may need to know how registers hang together, and
        says so with an assertion about them. Not to be used as a condition of ``m.If``: of that,
        Yosys keeps a copy which is not connected.
        """
        name = f"peek_{len(self.peeks)}"
        self.peeks[name] = path
        return self.free(name, shape)

    def replace(self, path: str, shape: Any = 1) -> Any:
        """Return a free signal that stands for an inner one: what drove that is out of the proof.

        With an `Assume` about it, a part is replaced by its contract, which is proved elsewhere.
        """
        self.cuts.append(path)
        return self.peek(path, shape)

    def constant(self, m: Module, name: str, shape: Any = 1) -> Any:
        """Return a signal of any value that stays the same for ever."""
        signal = self.free(name, shape)
        first = Signal(init=1, name=f"{name}_first")
        before = Signal(shape, name=f"{name}_before")
        m.d.sync += [first.eq(0), before.eq(signal)]
        m.d.comb += Assume(first | (before == signal))
        return signal

    def offer(self, m: Module, port: Any, name: str) -> tuple[Any, Any]:
        """Offer anything at an input stream, also what is withdrawn before it is taken."""
        wanted = self.free(f"{name}_valid")
        payload = self.free(f"{name}_payload", _width(port.payload))
        m.d.comb += [port.valid.eq(wanted), _value(port.payload).eq(payload)]
        return wanted, payload

    def feed(self, m: Module, port: Any, name: str) -> None:
        """Offer anything at an input stream, as a legal producer: held until it is taken."""
        wanted, payload = self.offer(m, port, name)
        held = Signal(name=f"{name}_held")
        before = Signal.like(payload, name=f"{name}_before")
        m.d.comb += Assume(~held | (wanted & (payload == before)))
        m.d.sync += [held.eq(port.valid & ~port.ready), before.eq(payload)]

    def drain(self, m: Module, port: Any, name: str) -> None:
        """Take from an output stream whenever the solver likes."""
        m.d.comb += port.ready.eq(self.free(f"{name}_ready"))

    def check_held(self, m: Module, port: Any, name: str, *, payload: Any = None) -> None:
        """Assert that an output stream holds valid and payload until they are taken.

        ``payload`` may be less than all of it, where the rest means nothing.
        """
        payload = _value(port.payload if payload is None else payload)
        held = Signal(name=f"{name}_was_held")
        before = Signal(len(payload), name=f"{name}_was")
        m.d.sync += [held.eq(port.valid & ~port.ready), before.eq(payload)]
        with m.If(held):
            m.d.comb += [Assert(port.valid), Assert(payload == before)]

    def check_order(
        self,
        m: Module,
        *,
        put: Any,
        item: Any,
        take: Any,
        result: Any,
        capacity: int,
        name: str,
    ) -> Signal:
        """Assert that what is put comes out once, in order and unchanged.

        One item of the solver's choice is followed: it must come out when those before it have.
        Since the choice is free, that goes for all. No item comes out that was not put.

        Parameters
        ----------
        m : Module
            What is being built.
        put, take : 1-bit value
            An item goes in; one comes out.
        item, result : value
            These items.
        capacity : int
            Items that are in between, at most; asserted too.
        name : str
            Of the signals.

        Returns
        -------
        Signal
            Items in between.

        """
        inside = Signal(range(capacity + 2), name=f"{name}_inside")
        follow = self.free(f"{name}_follow")
        follows = Signal(name=f"{name}_follows")
        ahead = Signal(range(capacity + 2), name=f"{name}_ahead")
        followed = Signal(Shape.cast(item.shape()), name=f"{name}_followed")
        starts = Signal(name=f"{name}_starts")
        m.d.comb += [
            # What passes through at once is compared at once.
            starts.eq(put & follow & ~follows & ~(take & (inside == 0))),
            Assert(inside <= capacity),
            Cover(take & follows & (ahead == 0)),
            Cover(inside == capacity),
        ]
        m.d.sync += inside.eq(inside + put - take)
        with m.If(starts):
            m.d.sync += [follows.eq(1), followed.eq(item), ahead.eq(inside - take)]
        with m.Elif(follows & take):
            m.d.sync += ahead.eq(ahead - 1)
            with m.If(ahead == 0):
                m.d.sync += follows.eq(0)
        with m.If(take):
            # An item may come out in the cycle in which it goes in.
            m.d.comb += Assert((inside != 0) | put)
            with m.If(follows & (ahead == 0)):
                m.d.comb += Assert(result == followed)
            with m.If((inside == 0) & put):
                m.d.comb += Assert(result == item)
        return inside

    def check_soon(self, m: Module, waiting: Any, served: Any, *, within: int, name: str) -> None:
        """Assert that ``waiting`` is never without ``served`` for more than ``within`` cycles."""
        late = Signal(range(within + 2), name=f"{name}_late")
        m.d.comb += Assert(late <= within)
        with m.If(waiting & ~served):
            m.d.sync += late.eq(late + 1)
        with m.Else():
            m.d.sync += late.eq(0)


def _value(payload: Any) -> Any:
    return payload.as_value() if hasattr(payload, "as_value") else payload


def _width(payload: Any) -> int:
    return len(_value(payload))
