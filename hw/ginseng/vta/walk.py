"""The triple loop of GEMM and ALU: the indices of every step (VTA specification §6, §7)."""

from typing import Any

from amaranth import Module, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ginseng.isa.config import CoreConfig, Memory
from ginseng.isa.insn import alu_layout, gemm_layout, uop_layout

__all__ = ["Walk", "step_layout", "walk_layout"]


def _index_bits(config: CoreConfig) -> dict[str, int]:
    """Bits of the indices of a step, by operand."""
    return {k: uop_layout(config)[k].width for k in ("dst", "src", "wgt")}


def walk_layout(config: CoreConfig) -> data.StructLayout:
    """Return what GEMM and ALU have in common, and the operation; at least one step."""
    alu, gemm = alu_layout(config), gemm_layout(config)
    bits = _index_bits(config)
    loop = {k: gemm[k].shape for k in ("uop_begin", "uop_end", "iter_out", "iter_in")}
    factors = {f"{k}_factor_{way}": unsigned(bits[k]) for k in bits for way in ("out", "in")}
    operation = {k: alu[k].shape for k in ("alu_op", "use_imm", "imm")}
    return data.StructLayout(loop | factors | {"is_alu": 1, "reset": 1} | operation)


def step_layout(config: CoreConfig) -> data.StructLayout:
    """Return one step: element indices, inside their scratchpads, and the operation."""
    bits = _index_bits(config)
    operation = {k: alu_layout(config)[k].shape for k in ("alu_op", "use_imm", "imm")}
    return data.StructLayout(
        {k: unsigned(bits[k]) for k in bits} | {"is_alu": 1, "reset": 1, "last": 1} | operation
    )


class Walk(wiring.Component):
    """Gives the steps of GEMM and ALU instructions in order, one per cycle, without gap between.

    The first step comes three cycles after its instruction. A step with an index outside its
    scratchpad is never given: ``fault`` rises and stays until reset, and nothing follows.

    Parameters
    ----------
    config : CoreConfig

    """

    #: In: loops with at least one step.
    i: stream.Interface
    #: Out: steps.
    o: stream.Interface

    def __init__(self, config: CoreConfig) -> None:
        self.config = config
        depth = config.log_depth(Memory.UOP)
        super().__init__(
            {
                "i": In(stream.Signature(walk_layout(config))),
                "o": Out(stream.Signature(step_layout(config))),
                #: Out: micro-op to read; in: it, in the next cycle, held while not enabled.
                "uop_enable": Out(1),
                "uop_address": Out(depth),
                "uop": In(uop_layout(config)),
                #: In: give nothing more.
                "halt": In(1),
                #: Out: micro-ops that are still to be read, if ``busy``.
                "uop_begin": Out(depth),
                "uop_end": Out(depth + 1),
                #: Out: an instruction is being walked.
                "busy": Out(1),
                #: Out: an index was outside its scratchpad.
                "fault": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()

        bits = _index_bits(self.config)
        operands = tuple(bits)

        command: Any = Signal(walk_layout(self.config))
        active = Signal()
        uop = Signal(self.config.log_depth(Memory.UOP))
        inner, outer = Signal(14), Signal(14)
        # An offset that has left its scratchpad faults at its first step, two cycles later at
        # most; two more bits keep it from coming back until then.
        of_outer = {k: Signal(bits[k] + 3, name=f"{k}_of_outer") for k in operands}
        offset = {k: Signal(bits[k] + 3, name=f"{k}_offset") for k in operands}

        advance = Signal()
        last_uop, last_inner, last_outer, last = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            last_uop.eq(uop + 1 == command.uop_end),
            last_inner.eq(inner + 1 == command.iter_in),
            last_outer.eq(outer + 1 == command.iter_out),
            last.eq(last_uop & last_inner & last_outer),
            self.busy.eq(active),
            self.uop_begin.eq(command.uop_begin),
            self.uop_end.eq(command.uop_end),
            self.uop_address.eq(uop),
            self.uop_enable.eq(advance & active),
            self.i.ready.eq(~active | (advance & last)),
        ]
        with m.If(advance & active):
            m.d.sync += uop.eq(uop + 1)
            with m.If(last_uop):
                m.d.sync += [uop.eq(command.uop_begin), inner.eq(inner + 1)]
                for k in operands:
                    m.d.sync += offset[k].eq(offset[k] + command[f"{k}_factor_in"])
                with m.If(last_inner):
                    m.d.sync += [inner.eq(0), outer.eq(outer + 1)]
                    for k in operands:
                        further = of_outer[k] + command[f"{k}_factor_out"]
                        m.d.sync += [of_outer[k].eq(further), offset[k].eq(further)]
        with m.If(self.i.ready):
            m.d.sync += active.eq(self.i.valid)
            with m.If(self.i.valid):
                m.d.sync += [
                    command.eq(self.i.payload),
                    uop.eq(self.i.payload.uop_begin),
                    inner.eq(0),
                    outer.eq(0),
                    *(of_outer[k].eq(0) for k in operands),
                    *(offset[k].eq(0) for k in operands),
                ]

        # One cycle later the micro-op is there.
        read: Any = Signal(step_layout(self.config))
        read_offset = {k: Signal(bits[k] + 3, name=f"{k}_read_offset") for k in operands}
        read_valid = Signal()
        with m.If(advance):
            m.d.sync += read_valid.eq(active)
            with m.If(active):
                m.d.sync += [
                    *(read[k].eq(command[k]) for k in ("is_alu", "reset")),
                    *(read[k].eq(command[k]) for k in ("alu_op", "use_imm", "imm")),
                    read.last.eq(last),
                    *(read_offset[k].eq(offset[k]) for k in operands),
                ]

        step: Any = Signal(step_layout(self.config))
        step_valid, outside = Signal(), Signal()
        indices = {k: Signal(bits[k] + 4, name=f"{k}_index") for k in operands}
        m.d.comb += [indices[k].eq(read_offset[k] + self.uop[k]) for k in operands]
        acc, inp, wgt = (self.config.depth(x) for x in (Memory.ACC, Memory.INP, Memory.WGT))
        with m.If(advance):
            m.d.sync += step_valid.eq(read_valid)
            with m.If(read_valid):
                m.d.sync += [
                    step.eq(read),
                    *(step[k].eq(indices[k]) for k in operands),
                    outside.eq(
                        (indices["dst"] >= acc)
                        | (read.is_alu & (indices["src"] >= acc))
                        | (~read.is_alu & ~read.reset & (indices["src"] >= inp))
                        | (~read.is_alu & ~read.reset & (indices["wgt"] >= wgt))
                    ),
                ]

        m.d.comb += [
            self.o.payload.eq(step),
            self.o.valid.eq(step_valid & ~outside & ~self.halt),
            advance.eq(~step_valid | (self.o.valid & self.o.ready)),
        ]
        with m.If(step_valid & outside):
            m.d.sync += self.fault.eq(1)

        return m
