"""Turns a proof's harness into models, in a process of its own that sees planted bugs."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from amaranth.back import rtlil

from ginseng.bench.errors import BenchError
from ginseng.bench.formal.proof import Proof, load_proofs
from ginseng.bench.formal.taint import NETLIST_SCRIPT, SECRETS, write_secrets
from ginseng.soc.yosys import run_scripts

__all__ = ["AIGER", "SMT2", "elaborate", "write_models", "write_netlist"]

#: The files that `write_models` leaves: for ABC, and for smtbmc.
AIGER, SMT2 = "design.aig", "design.smt2"

#: One flat module of registers and gates; memories become registers.
_FLATTEN = """
read_rtlil design.il
hierarchy -check -top top
proc
flatten
script inner.ys
opt_clean -purge
memory -nordff
setundef -undriven -anyseq
opt -fast
async2sync
"""
_SMT2 = """
chformal -early
dffunmap
opt_clean -purge
write_smt2 -wires design.smt2
"""
_AIGER = """
chformal -cover -remove
opt_clean -purge
dffunmap
opt -fast
techmap
opt -fast
simplemap
dffunmap
aigmap
setundef -undriven -anyseq
opt_clean -purge
write_aiger -zinit design.aig
"""


def elaborate(file: Path, name: str, place: Path, environment: Mapping[str, str]) -> None:
    """Write ``design.il`` of a proof into ``place``, in a process with ``environment``.

    Raises
    ------
    BenchError
        If the harness does not elaborate.

    """
    done = subprocess.run(
        [sys.executable, "-m", __name__, str(file.resolve()), name, str(place)],
        env=dict(environment),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise BenchError(f"Proof {name!r} does not elaborate:\n{done.stderr.strip()[-2000:]}")


def write_models(proof: Proof, place: Path, *, aiger: bool) -> None:
    """Write the models of ``design.il``: for smtbmc, and for ABC if ``aiger``.

    Raises
    ------
    YosysError
        If Yosys fails, or the design has a latch or a loop.

    """
    scripts = {"smt2": _FLATTEN + _SMT2}
    if aiger:
        scripts["aiger"] = _FLATTEN + _AIGER
    run_scripts(scripts, place, timeout=proof.timeout)


def write_netlist(proof: Proof, place: Path) -> None:
    """Write the netlist of ``design.il``, for `ginseng.bench.formal.taint`.

    Raises
    ------
    YosysError
        If Yosys fails.

    """
    run_scripts({"netlist": NETLIST_SCRIPT}, place, timeout=proof.timeout)


def _main(file: str, name: str, place: str) -> None:
    (proof,) = (proof for proof in load_proofs(Path(file)) if proof.name == name)
    harness = proof.harness()
    # Ports are known only once all of it is elaborated, while this is converted.
    module = harness.elaborate()
    text = rtlil.convert(module, name="top", ports=harness.ports)
    (Path(place) / "design.il").write_text(text)
    # Inner signals have their names once the design is flat.
    lines = [f"cutpoint w:{path}\n" for path in harness.cuts]
    lines += [
        f"delete -input w:{name}\nconnect -set \\{name} \\{path}\n"
        for name, path in harness.peeks.items()
    ]
    (Path(place) / "inner.ys").write_text("".join(lines))
    write_secrets(harness.secrets, Path(place) / SECRETS)


if __name__ == "__main__":
    _main(*sys.argv[1:])
