"""The label of the first maximum, found on the core: the owner learns nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np

from ginseng.compiler.backend.instruction import Loop, Uops
from ginseng.compiler.backend.lowering import Layer, Slots
from ginseng.compiler.backend.segment import Role
from ginseng.compiler.floatgraph import Call, FloatNode, Network, Operator
from ginseng.compiler.graph import Node, Value
from ginseng.compiler.quantise import Scales
from ginseng.isa.config import Memory
from ginseng.isa.insn import AluOp
from ginseng.program import OwnerStep

__all__ = ["OPERATOR", "ArgMax"]

#: Two bytes, the high one an int8.
_CLASS_LIMIT: Final = 1 << 15


@dataclass(frozen=True, kw_only=True)
class ArgMax(Node):
    """``output = (label - 256 * (label >> 8) as int8, label >> 8)``.

    ``label`` is the least index at which ``x`` has its maximum. The low byte, 0 to 255, is stored
    as the int8 with these bits. On the core every class competes as the one number ``x * 2**b +
    2**b - 1 - index``, where ``2**b`` is the number of classes or just above.
    """

    kind: ClassVar[str] = "argmax"
    scaled: ClassVar[bool] = False

    def worst_case(self, inputs: Sequence[Value]) -> int:
        """Return the bound of the competing numbers."""
        return 1024 << _bits(inputs[0].extents[0])

    def output_extents(self, inputs: Sequence[Value]) -> tuple[int, int, int]:
        """Return two pixels of one channel."""
        channels, height, width = inputs[0].extents
        if (height, width) != (1, 1) or channels > _CLASS_LIMIT:
            raise self.refuse(
                f"it compares {channels} channels of {height}x{width} pixels; up to {_CLASS_LIMIT} "
                "features of one pixel are supported, take the logits as the result"
            )
        return 1, 1, 2

    def lower(self, inputs: Sequence[Value], layer: Layer) -> None:
        """Emit the layer.

        Each block of classes is multiplied by every rotation of its lanes, so that each lane sees
        every class of the block; a running maximum over all of them ends in every lane.
        """
        config, stream = layer.config, layer.stream
        block, classes = config.block, inputs[0].extents[0]
        blocks, bits = layer.blocks(classes), _bits(classes)
        lanes = np.arange(block)
        rotations = np.zeros((block, block, block), np.int8)
        for turn in range(block):
            rotations[turn, lanes, (lanes + turn) % block] = 1
        weights = layer.constant(Role.WEIGHTS, rotations)
        # For each rotation, and for each block: what a class adds to the number it competes with.
        # Lanes beyond the last class, which are zero or anything, lose to all others.
        codes = (1 << bits) - 1 - np.arange(blocks * block).reshape(blocks, block)
        codes[-1, classes - (blocks - 1) * block :] -= 1 << bits + 9
        spread = np.stack([codes[:, (lanes + turn) % block] for turn in range(block)], 1)
        spread = np.repeat(spread[:, :, None, :], config.batch, 2).astype(np.int32)
        constants = layer.constant(Role.BIASES, spread)
        layer.fits(4 * block + 3, Memory.ACC, "a block of classes with its rotations, twice,")
        # The winner so far, its label's two bytes, and two areas of candidates and codes.
        best, label, areas = 0, 1, Slots(3, 2 * block, 2)
        stream.load(Memory.WGT, weights, 0, sram=0, cols=block)
        one, turns = Loop(), Loop(block, dst=1)
        logits = Slots(0, 1, 2)
        for at in range(blocks):
            area, _ = areas.get(at)
            place, _ = logits.get(at)
            stream.load(Memory.INP, layer.source(), at, sram=place, cols=1)
            stream.load(Memory.ACC, constants, at * block, sram=area + block, cols=block)
            stream.gemm(Uops.one(area), one, turns, reset=True)
            stream.gemm(Uops.one(area, place), one, Loop(block, dst=1, wgt=1))
            stream.alu(AluOp.SHR, Uops.one(area, area), one, turns, imm=-bits)
            stream.alu(AluOp.ADD, Uops.one(area, area + block), one, Loop(block, dst=1, src=1))
            if at == 0:
                # The first rotation of the first block is the first winner.
                stream.gemm(Uops.one(best), reset=True)
                stream.alu(AluOp.ADD, Uops.one(best, area))
            stream.alu(AluOp.MAX, Uops.one(best, area), one, Loop(block, src=1))
        # What the winner has below its value is the label, counted down from 2**bits - 1.
        stream.gemm(Uops.one(label), one, Loop(2, dst=1), reset=True)
        stream.alu(AluOp.ADD, Uops.one(label, best))
        both = Uops.one(label, label)
        stream.alu(AluOp.SHR, both, imm=bits)
        stream.alu(AluOp.SHR, both, imm=-bits)
        stream.alu(AluOp.MUL, Uops.one(best, best), imm=-1)
        stream.alu(AluOp.ADD, Uops.one(label, best))
        stream.alu(AluOp.ADD, both, imm=(1 << bits) - 1)
        stream.alu(AluOp.ADD, Uops.one(label + 1, label))
        stream.alu(AluOp.SHR, Uops.one(label + 1, label + 1), imm=8)
        layer.store(0, sram=label, cols=2)


def _bits(classes: int) -> int:
    """Return how many bits tell ``classes`` apart."""
    return (classes - 1).bit_length()


@dataclass(kw_only=True)
class FloatArgMax(FloatNode):
    """The index of a maximum."""

    def quantise(self, inputs: Sequence[Value], scales: Scales) -> Node:
        """Return the integer form: a label has no scale."""
        output = Value(name=self.output, shape=self.shape, shift=0)
        return ArgMax(name=self.name, inputs=tuple(self.inputs), output=output)


def _recognise(call: Call, network: Network) -> FloatNode | None:
    """Claim the index of the maximum of features, as an output of the model."""
    shape = network.shape(call.args[0])
    axis = call.attr("axis")
    if not isinstance(axis, int) or axis % len(shape) != 1 or max(shape[2:], default=1) > 1:
        raise call.refuse(
            f"it is the argmax of {shape} along axis {axis}; only features (axis 1 of one pixel) "
            "are supported, take the logits as the result"
        )
    if call.output not in network.outputs or not network.is_read_once(call.output):
        raise call.refuse("its label is used in the model; a label can only be an output")
    if network.is_flattened(call.args[0]):
        raise call.refuse("its input is a flattened image; take that as the result")
    label = OwnerStep(op="label", before=(1, 1, 2), after=call.shape[1:])
    network.steps[call.output] = (label, *network.steps.get(call.output, ()))
    return FloatArgMax(name=call.name, inputs=[call.args[0]], output=call.output, shape=(1, 1, 2))


OPERATOR = Operator("argmax", ("relax.argmax",), _recognise)
