"""Max pooling, exact on int8."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from ginseng.compiler.backend.instruction import Loop, Uops
from ginseng.compiler.backend.lowering import Layer, clip_passes
from ginseng.compiler.backend.pointwise import PlaneTile
from ginseng.compiler.backend.window import Window, lower_window
from ginseng.compiler.floatgraph import Call, FloatNode, Network, Operator
from ginseng.compiler.graph import INT8, Node, Value
from ginseng.compiler.operators.global_average_pool import image_extents
from ginseng.compiler.quantise import Scales
from ginseng.isa.insn import AluOp

__all__ = ["OPERATOR", "MaxPool"]


@dataclass(frozen=True, kw_only=True)
class MaxPool(Node):
    """``output = clip(max of x over the window)``; input and output have the same shift.

    Output pixel ``(y, x)`` looks at rows ``y * strides[0] - padding[0] + n * dilation[0]``, ``n``
    from 0 to ``kernel[0] - 1``, likewise at columns, as far as they lie in the image: padding never
    wins.

    Attributes
    ----------
    kernel, strides, dilation : tuple of int
        Down, across.
    padding : tuple of int
        Top, left. Bottom and right follow from the output's extents.

    """

    kind: ClassVar[str] = "max_pool"

    kernel: tuple[int, int]
    strides: tuple[int, int]
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)

    @property
    def window(self) -> Window:
        """What each output looks at."""
        return Window(
            kernel=self.kernel, strides=self.strides, padding=self.padding, dilation=self.dilation
        )

    def worst_case(self, inputs: Sequence[Value]) -> int:
        """Return 128: nothing grows."""
        return 128

    def output_extents(self, inputs: Sequence[Value]) -> tuple[int, int, int]:
        """Return the output's own extents, once every window is known to meet the image."""
        channels, *image = inputs[0].extents
        for n in (0, 1):
            for y in range(self.output.extents[n + 1]):
                if not any(0 <= p < image[n] for p in self.window.positions(n, y)):
                    raise self.refuse(
                        f"a window of {self.kernel} with padding {self.padding} lies wholly "
                        f"outside the {image[0]}x{image[1]} image; use less padding"
                    )
        return (channels, *self.output.extents[1:])

    def lower(self, inputs: Sequence[Value], layer: Layer) -> None:
        """Emit the layer: a running maximum over the positions of the window."""
        source = inputs[0]
        passes = clip_passes(self.output.lo, self.output.hi, (source.lo, source.hi))

        def finish(tile: PlaneTile) -> None:
            everything = Loop(tile.blocks * tile.rows * self.output.extents[2], dst=1)
            for op, bound in passes:
                layer.stream.alu(op, Uops.one(tile.base, tile.base), inner=everything, imm=bound)

        lower_window(
            layer,
            self.window,
            source.extents,
            self.output.extents,
            op=AluOp.MAX,
            start=0 if source.lo >= 0 else INT8[0],
            finish=finish,
        )


@dataclass(kw_only=True)
class FloatMaxPool(FloatNode):
    """Max pooling of floats."""

    kernel: tuple[int, int]
    strides: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int] = (1, 1)

    @property
    def tied(self) -> tuple[str, ...]:
        """Return its input and its result: it does not rescale."""
        return (*self.inputs, self.output)

    def quantise(self, inputs: Sequence[Value], scales: Scales) -> Node:
        """Return the integer pooling."""
        return MaxPool(
            name=self.name,
            inputs=tuple(self.inputs),
            output=scales.inherit(self, inputs[0]),
            kernel=self.kernel,
            strides=self.strides,
            padding=self.padding,
            dilation=self.dilation,
        )


def _recognise(call: Call, network: Network) -> FloatNode | None:
    """Claim a max pooling, or a maximum over the image."""
    if call.op == "relax.max":
        shape = image_extents(call, network)
        return FloatMaxPool(
            name=call.name,
            inputs=[call.args[0]],
            output=call.output,
            shape=call.sample_shape(),
            kernel=shape,
            strides=(1, 1),
            padding=(0, 0),
        )
    if call.attr("layout") != "NCHW":
        raise call.refuse(f"its layout is {call.attr('layout')}; export it as NCHW")
    return FloatMaxPool(
        name=call.name,
        inputs=[call.args[0]],
        output=call.output,
        shape=call.sample_shape(),
        kernel=call.attr("pool_size"),
        strides=call.attr("strides"),
        padding=call.attr("padding")[:2],
        dilation=call.attr("dilation"),
    )


OPERATOR = Operator("max_pool", ("relax.nn.max_pool2d", "relax.max"), _recognise)
