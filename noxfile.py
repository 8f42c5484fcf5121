"""Every task a developer or CI runs; `nox -l` lists them."""

import sys
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.sessions = ["lint", "tests"]
PYPROJECT = nox.project.load_toml("pyproject.toml")


def _group(name: str) -> list[str]:
    """Requirements of a dependency group of pyproject.toml."""
    return list(nox.project.dependency_groups(PYPROJECT, name))


def _missing(session: nox.Session, subject: Path, what: str) -> None:
    """Say that a session's subject is not there yet, and fail."""
    session.error(f"{what} is not there yet: {subject} does not exist")


@nox.session
def demo(session: nox.Session) -> None:
    """Run the whole story: compile, attest, seal, run, open, attack."""
    session.install("-e.[demo]")
    session.run("ginseng", "demo", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """Run every test but the long campaigns; arguments go to pytest."""
    session.install("-e.[bench,plot,rtl,formal,myelin]", *_group("test"))
    session.run("pytest", "-n", "auto", *session.posargs)


@nox.session
def torch(session: nox.Session) -> None:
    """Import torch.export programs: the tests that need PyTorch, which nothing else does."""
    session.install("-e.[tvm]", *_group("test"), "torch==2.13.0")
    session.run("pytest", "tests/sw/compiler/test_compiler_torch.py", *session.posargs)


@nox.session
def rtl(session: nox.Session) -> None:
    """Try the gates at length in Verilator: programs, bus delays, errors, whole networks."""
    session.install("-e.[demo,rtl]", *_group("test"))
    args = session.posargs or ["-n", "2", "-v"]
    session.run("pytest", "-m", "rtl or campaign", *args)


@nox.session
def formal(session: nox.Session) -> None:
    """Do every proof and find its planted bugs; names of proofs and `--json FILE` follow `--`."""
    session.install("-e.[formal]")
    session.run("python", "-m", "ginseng.bench.formal", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, types and layering."""
    session.install("-e.[demo,plot,rtl,formal]", *_group("lint"), *_group("test"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")
    session.run("lint-imports")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation site into build/site; broken links fail."""
    session.install("-e.[docs]")
    session.run("mkdocs", "build", "--strict", "--site-dir", "build/site")


@nox.session
def bench(session: nox.Session) -> None:
    """Measure: `nox -s bench -- compiler --json`, `nox -s bench -- vta --plot roofline.png`."""
    session.install("-e.[bench,plot,rtl]")
    session.run("ginseng", "bench", *(session.posargs or ["compiler"]))


@nox.session
def peers(session: nox.Session) -> None:
    """Measure others beside us, in the same process and run."""
    _missing(session, Path("sw/ginseng/myelin"), "Myelin, whose peers these are,")


@nox.session
def synth(session: nox.Session) -> None:
    """Synthesise for the xc7z020: area, longest paths, limits; `-- --json FILE`, `-- --ecp5`."""
    session.install("-e.[ecp5]" if "--ecp5" in session.posargs else "-e.[synth]")
    session.run("python", "-m", "ginseng.soc.synth", *session.posargs)


@nox.session
def bitstream(session: nox.Session) -> None:
    """Write the Vivado project of a board; runs Vivado where it is installed."""
    _missing(session, Path("hw/ginseng/soc/zynq.py"), "A shell for a board")


if __name__ == "__main__":
    sys.exit("Run me through nox: nox -l")
