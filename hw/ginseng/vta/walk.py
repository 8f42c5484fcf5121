"""The triple loop of GEMM and ALU: the indices of every step (VTA specification §6, §7)."""

from typing import Any, Final

from amaranth import Cat, Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ginseng.isa.config import CoreConfig, Memory
from ginseng.isa.insn import alu_layout, gemm_layout, uop_layout
from ginseng.vta.scoreboard import WINDOW

__all__ = ["ALU_WALK", "GEMM_WALK", "RESET_WALK", "Walk", "WalkKind"]


class WalkKind:
    """What one unit walks: its operands, and what goes with every step.

    Parameters
    ----------
    scratchpads : dict of str to Memory
        The scratchpad that each operand (``dst``, ``src``, ``wgt``) indexes.
    extra : tuple of str
        Fields of the instruction that every step carries.

    """

    def __init__(self, scratchpads: dict[str, Memory], extra: tuple[str, ...] = ()) -> None:
        self.scratchpads: Final = scratchpads
        self.extra: Final = extra

    def _extra(self, config: CoreConfig) -> dict[str, Any]:
        fields = {"reset": unsigned(1)} | {
            k: alu_layout(config)[k].shape for k in ("alu_op", "use_imm", "imm")
        }
        return {k: fields[k] for k in self.extra}

    def command(self, config: CoreConfig) -> data.StructLayout:
        """Return a loop of at least one step.

        ``single`` says that there is one micro-op, ``uop``, which is then not read again.
        """
        gemm = gemm_layout(config)
        loop = {k: gemm[k].shape for k in ("uop_begin", "uop_end", "iter_out", "iter_in")}
        factors = {
            f"{k}_factor_{way}": unsigned(uop_layout(config)[k].width)
            for k in self.scratchpads
            for way in ("out", "in")
        }
        uop = {"single": 1, "uop": uop_layout(config), "tag": range(WINDOW)}
        return data.StructLayout(loop | factors | self._extra(config) | uop)

    def step(self, config: CoreConfig) -> data.StructLayout:
        """Return one step: element indices, inside their scratchpads, and the operation."""
        indices = {k: unsigned(uop_layout(config)[k].width) for k in self.scratchpads}
        return data.StructLayout(indices | self._extra(config) | {"last": 1, "tag": range(WINDOW)})


GEMM_WALK: Final = WalkKind(
    {"dst": Memory.ACC, "src": Memory.INP, "wgt": Memory.WGT}, extra=("reset",)
)
ALU_WALK: Final = WalkKind(
    {"dst": Memory.ACC, "src": Memory.ACC}, extra=("alu_op", "use_imm", "imm")
)
RESET_WALK: Final = WalkKind({"dst": Memory.ACC})


class Walk(wiring.Component):
    """Gives the steps of a unit's instructions in order, one per cycle, without gap between.

    The first step comes three cycles after its instruction. A step with an index outside its
    scratchpad is never given: ``fault`` rises and stays until reset, and nothing follows.

    Parameters
    ----------
    config : CoreConfig
    kind : WalkKind

    """

    #: In: loops with at least one step.
    i: stream.Interface
    #: Out: steps.
    o: stream.Interface

    def __init__(self, config: CoreConfig, kind: WalkKind) -> None:
        self.config = config
        self.kind = kind
        super().__init__(
            {
                "i": In(stream.Signature(kind.command(config))),
                "o": Out(stream.Signature(kind.step(config))),
                #: Out: micro-op to read; in: it, in the next cycle, held while not enabled.
                "uop_enable": Out(1),
                "uop_address": Out(config.log_depth(Memory.UOP)),
                "uop": In(uop_layout(config)),
                #: In: give nothing more.
                "halt": In(1),
                #: Out: micro-ops are being read, or what was read still counts.
                "uop_busy": Out(1),
                #: Out: an index was outside its scratchpad.
                "fault": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()

        kind = self.kind
        step_layout = kind.step(self.config)
        bits = {k: step_layout[k].width for k in kind.scratchpads}
        passed = (*kind.extra, "tag")

        command: Any = Signal(kind.command(self.config))
        active = Signal()
        uop = Signal(self.config.log_depth(Memory.UOP))
        # Loaded with every loop, and not reset: the reset of their flip-flops is what clears them.
        inner, outer = Signal(14, reset_less=True), Signal(14, reset_less=True)
        # An offset that has left its scratchpad faults at its first step, two cycles later at
        # most; two more bits keep it from coming back until then.
        of_outer = {k: Signal(bits[k] + 3, name=f"{k}_of_outer", reset_less=True) for k in bits}
        offset = {k: Signal(bits[k] + 3, name=f"{k}_offset", reset_less=True) for k in bits}

        advance = Signal()
        read_valid, single = Signal(), Signal()
        last_uop, last_inner, last_outer, last = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            last_uop.eq(command.single | (uop + 1 == command.uop_end)),
            last_inner.eq(inner + 1 == command.iter_in),
            last_outer.eq(outer + 1 == command.iter_out),
            last.eq(last_uop & last_inner & last_outer),
            self.uop_busy.eq((active & ~command.single) | (read_valid & ~single)),
            self.uop_address.eq(uop),
            self.uop_enable.eq(advance & active & ~command.single),
            self.i.ready.eq(~active | (advance & last)),
        ]
        takes, steps_inner, steps_outer = Signal(), Signal(), Signal()
        m.d.comb += [
            takes.eq(self.i.valid & self.i.ready),
            steps_inner.eq(advance & active & last_uop),
            steps_outer.eq(steps_inner & last_inner),
        ]
        with m.If(advance & active):
            m.d.sync += uop.eq(uop + 1)
        with m.If(steps_inner):
            m.d.sync += [uop.eq(command.uop_begin), inner.eq(inner + 1)]
            for k in bits:
                further = of_outer[k] + command[f"{k}_factor_out"]
                nearer = offset[k] + command[f"{k}_factor_in"]
                m.d.sync += offset[k].eq(Mux(last_inner, further, nearer))
        with m.If(steps_outer):
            m.d.sync += outer.eq(outer + 1)
            for k in bits:
                m.d.sync += of_outer[k].eq(of_outer[k] + command[f"{k}_factor_out"])
        with m.If(self.i.ready):
            m.d.sync += active.eq(self.i.valid)
        with m.If(takes):
            m.d.sync += [command.eq(self.i.payload), uop.eq(self.i.payload.uop_begin)]
        # Each cleared by one condition, which the reset of its flip-flops takes.
        with m.If(takes | steps_outer):
            m.d.sync += inner.eq(0)
        with m.If(takes):
            m.d.sync += [outer.eq(0), *(s.eq(0) for k in bits for s in (of_outer[k], offset[k]))]

        # One cycle later the micro-op is there.
        read: Any = Signal(step_layout)
        read_offset = {k: Signal(bits[k] + 3, name=f"{k}_read_offset") for k in bits}
        only = {k: Signal(bits[k], name=f"{k}_only") for k in bits}
        with m.If(advance):
            m.d.sync += read_valid.eq(active)
            with m.If(active):
                m.d.sync += [
                    *(read[k].eq(command[k]) for k in passed),
                    read.last.eq(last),
                    single.eq(command.single),
                    *(only[k].eq(command.uop[k]) for k in bits),
                    *(read_offset[k].eq(offset[k]) for k in bits),
                ]

        step: Any = Signal(step_layout)
        step_valid, outside = Signal(), Signal()
        indices = {k: Signal(bits[k] + 4, name=f"{k}_index") for k in bits}
        beyond = {k: Signal(name=f"{k}_beyond") for k in bits}
        for k, home in kind.scratchpads.items():
            m.d.comb += [
                indices[k].eq(Mux(single, only[k], self.uop[k]) + read_offset[k]),
                beyond[k].eq(indices[k] >= self.config.depth(home)),
            ]
        if "reset" in kind.extra:
            # A reset reads nothing.
            for k in bits:
                if k != "dst":
                    m.d.comb += beyond[k].eq(
                        ~read.reset & (indices[k] >= self.config.depth(kind.scratchpads[k]))
                    )
        with m.If(advance):
            m.d.sync += step_valid.eq(read_valid)
            with m.If(read_valid):
                m.d.sync += [
                    *(step[k].eq(read[k]) for k in (*passed, "last")),
                    *(step[k].eq(indices[k]) for k in bits),
                    outside.eq(Cat(beyond.values()).any()),
                ]

        m.d.comb += [
            self.o.payload.eq(step),
            self.o.valid.eq(step_valid & ~outside & ~self.halt),
            advance.eq(~step_valid | (self.o.valid & self.o.ready)),
        ]
        with m.If(step_valid & outside):
            m.d.sync += self.fault.eq(1)

        return m
