"""How a layer's dimensions are cut: runs, stripes of columns, phases of a spread image."""

from dataclasses import dataclass
from math import gcd

from ginseng.compiler.backend.tiling import Geometry

__all__ = ["Part", "Phase", "Stripe", "parts", "phases"]


@dataclass(frozen=True)
class Part:
    """A run of one dimension: where it starts, how long it is."""

    begin: int
    size: int


def parts(extent: int, size: int, begin: int = 0) -> list[Part]:
    """Return ``extent``, from ``begin`` on, in runs of ``size``; the last may be shorter."""
    end = begin + extent
    return [Part(at, min(size, end - at)) for at in range(begin, end, size)]


@dataclass(frozen=True)
class Phase:
    """Outputs and kernel positions of one axis that meet real pixels of a spread image.

    Every ``output_step``-th output from ``output`` on meets, with every ``tap_step``-th kernel
    position from ``tap`` on, pixels from ``pixel`` on; each further output is ``output_pixels``
    further, each further kernel position ``tap_pixels``.
    """

    output: int
    outputs: int
    output_step: int
    output_pixels: int
    tap: int
    taps: int
    tap_step: int
    tap_pixels: int
    pixel: int


@dataclass(frozen=True)
class Stripe:
    """Columns of a layer that count as an image of their own.

    Attributes
    ----------
    column, output : int
        First column of the whole image, and of the whole result.
    width, out_width : int
        Of the whole image and result.

    """

    column: int
    output: int
    width: int
    out_width: int


def phases(g: Geometry, axis: int, outputs: Part, kernel: Part) -> list[Phase]:
    """Return which outputs and kernel positions of an axis meet pixels, not zeros between."""
    up, stride, dilation = g.upsample[axis], g.strides[axis], g.dilation[axis]
    period, tap = up // gcd(up, stride), up // gcd(up, dilation)
    found = []
    for p in range(min(period, outputs.size)):
        for q in range(min(tap, kernel.size)):
            place = (outputs.begin + p) * stride + (kernel.begin + q) * dilation
            pixel, between = divmod(place - g.padding[axis], up)
            if not between:
                found.append(
                    Phase(
                        output=p,
                        outputs=len(range(p, outputs.size, period)),
                        output_step=period,
                        output_pixels=period * stride // up,
                        tap=q,
                        taps=len(range(q, kernel.size, tap)),
                        tap_step=tap,
                        tap_pixels=tap * dilation // up,
                        pixel=pixel,
                    )
                )
    return found
