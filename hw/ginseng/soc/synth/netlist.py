"""A mapped netlist: cells, what drives each bit and how often it is used, and names."""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from ginseng.soc.synth.errors import SynthError

__all__ = ["Cell", "Netlist", "Pin", "read_modules"]

#: A bit of a netlist: a net's number, or the constants "0", "1", "x" and "z".
Bit = int | str


@dataclass(frozen=True, slots=True)
class Pin:
    """Bit ``index`` of ``port`` of the cell called ``cell``."""

    cell: str
    port: str
    index: int


@dataclass(frozen=True)
class Cell:
    """An instance of a primitive.

    Attributes
    ----------
    name, kind : str
        Of the instance, and of the primitive.
    parameters, attributes : dict
        As Yosys writes them: binary numerals, or text.
    inputs, outputs : dict of str to tuple
        Bits by port.

    """

    name: str
    kind: str
    parameters: dict[str, str]
    attributes: dict[str, str]
    inputs: dict[str, tuple[Bit, ...]]
    outputs: dict[str, tuple[Bit, ...]]

    def number(self, parameter: str, default: int = 0) -> int:
        """Return a parameter as a number."""
        text = self.parameters.get(parameter)
        if text is None:
            return default
        digits = str(text).strip().replace("x", "0")
        return int(digits, 2) if re.fullmatch("[01]+", digits) else default

    def flag(self, parameter: str) -> str:
        """Return a parameter as text."""
        return str(self.parameters.get(parameter, "")).strip()

    @property
    def source(self) -> str:
        """Where it was written: ``file.py:line`` of the innermost place, or nothing."""
        return _short(str(self.attributes.get("src", "")))


def _short(source: str) -> str:
    """Return the last two parts of the first path of a Yosys source list, with its line."""
    first = source.split("|")[0]
    match = re.match(r"(?P<path>[^:]*):(?P<line>\d+)", first)
    if not match:
        return ""
    return "/".join(Path(match["path"]).parts[-2:]) + ":" + match["line"]


def read_modules(path: Path) -> dict[str, Any]:
    """Return the modules of a file that Yosys' ``write_json`` wrote, library cells left out."""
    modules = json.loads(path.read_text())["modules"]
    return {
        name: module
        for name, module in modules.items()
        if not {"blackbox", "whitebox"} & module["attributes"].keys()
    }


class Netlist:
    """One flat module of primitives.

    Parameters
    ----------
    module : dict
        The module as ``write_json`` writes it.

    """

    def __init__(self, module: dict[str, Any]) -> None:
        self._names = module["netnames"]
        self.inputs: dict[str, tuple[Bit, ...]] = {}
        self.outputs: dict[str, tuple[Bit, ...]] = {}
        for name, port in module["ports"].items():
            side = self.inputs if port["direction"] == "input" else self.outputs
            side[name] = tuple(port["bits"])
        self.cells: dict[str, Cell] = {}
        for name, entry in module["cells"].items():
            ends: dict[str, dict[str, tuple[Bit, ...]]] = {"input": {}, "output": {}}
            for port, bits in entry["connections"].items():
                ends[entry["port_directions"][port]][port] = tuple(bits)
            self.cells[name] = Cell(
                name=name,
                kind=entry["type"],
                parameters=entry["parameters"],
                attributes=entry["attributes"],
                inputs=ends["input"],
                outputs=ends["output"],
            )

    @classmethod
    def read(cls, path: Path, top: str) -> Self:
        """Read module ``top`` of a file that Yosys' ``write_json`` wrote.

        Raises
        ------
        SynthError
            If there is no such module.

        """
        modules = read_modules(path)
        if top not in modules:
            raise SynthError(f"Netlist {path} has no module {top!r}, but {', '.join(modules)}")
        return cls(modules[top])

    def pins(self, side: str) -> Iterator[tuple[Pin, Bit]]:
        """Yield the pins of every cell on ``side``, "inputs" or "outputs"."""
        for cell in self.cells.values():
            for port, bits in getattr(cell, side).items():
                for index, bit in enumerate(bits):
                    yield Pin(cell.name, port, index), bit

    @cached_property
    def drivers(self) -> dict[Bit, Pin]:
        """The output pin that drives each bit; none for the bits of input ports."""
        return {bit: pin for pin, bit in self.pins("outputs")}

    @cached_property
    def loads(self) -> dict[Bit, int]:
        """Input pins and output ports that each bit drives."""
        count: dict[Bit, int] = {}
        ports: Iterable[Bit] = (bit for bits in self.outputs.values() for bit in bits)
        for bit in (*ports, *(bit for _, bit in self.pins("inputs"))):
            count[bit] = count.get(bit, 0) + 1
        return count

    @cached_property
    def names(self) -> dict[Bit, tuple[str, int | None]]:
        """The best name of each bit that has one: signal, and index if it has several bits.

        Names that a tool made up do not count. Of several, the deepest in the hierarchy wins, of
        these the shortest: where the value comes from, not where it is passed on.
        """
        best: dict[Bit, tuple[tuple[int, int, str], tuple[str, int | None]]] = {}
        for name, entry in self._names.items():
            if entry.get("hide_name") or "$" in name:
                continue
            rank = (-name.count("."), len(name), name)
            for index, bit in enumerate(entry["bits"]):
                if bit not in best or rank < best[bit][0]:
                    best[bit] = (rank, (name, index if len(entry["bits"]) > 1 else None))
        return {bit: found for bit, (_, found) in best.items()}

    @cached_property
    def sources(self) -> dict[str, str]:
        """``file.py:line`` of each named signal."""
        return {
            name: _short(str(entry.get("attributes", {}).get("src", "")))
            for name, entry in self._names.items()
        }
