"""Runs Yosys scripts, each in a process of its own; as a module, it is that process."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

__all__ = ["YosysError", "run_scripts"]

_TAIL = 12


class YosysError(Exception):
    """Yosys is missing, or a script of its failed."""


def run_scripts(scripts: Mapping[str, str], place: Path, *, timeout: float = 1800) -> None:
    """Run Yosys scripts side by side, with ``place`` as their working directory.

    A crash of Yosys then is an error and not ours, its log stays off standard output, and two
    scripts take two processors.

    Parameters
    ----------
    scripts : mapping of str to str
        By name; each log goes to ``NAME.log``.
    place : Path
        A directory.
    timeout : float
        Seconds for all together.

    Raises
    ------
    YosysError
        If one fails; it has the end of its log.

    """
    running: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for name, script in scripts.items():
            (place / f"{name}.ys").write_text(script)
            with (place / f"{name}.log").open("wb") as log:
                running[name] = subprocess.Popen(
                    [sys.executable, "-m", __name__, f"{name}.ys"],
                    cwd=place,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
        for name, process in running.items():
            try:
                code = process.wait(timeout)
            except subprocess.TimeoutExpired:
                raise YosysError(f"Yosys script {name} did not end within {timeout:g} s") from None
            if code:
                lines = (place / f"{name}.log").read_text(errors="replace").splitlines()
                raise YosysError(
                    f"Yosys script {name} ended with {code}:\n" + "\n".join(lines[-_TAIL:])
                )
    finally:
        for process in running.values():
            if process.poll() is None:
                process.kill()
                process.wait()


def main(script: str) -> None:
    """Run a script file.

    Raises
    ------
    YosysError
        If pyosys is not installed.

    """
    try:
        from pyosys import libyosys
    except ImportError as error:
        raise YosysError(
            "pyosys is not installed; it comes with the extra: pip install 'ginseng[synth]'"
        ) from error
    design = libyosys.Design()
    libyosys.run_pass(f"script {script}", design)


if __name__ == "__main__":
    main(sys.argv[1])
