"""``python -m ginseng.bench.formal``: do proofs, plant their bugs, report."""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from os import cpu_count, environ
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ginseng.bench.errors import BenchError
from ginseng.bench.formal.engine import Result, check_bug, check_proof
from ginseng.bench.formal.proof import Bug, Proof, find_proofs
from ginseng.soc.yosys import YosysError

__all__: list[str] = []


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="nox -s formal --", description=__doc__)
    parser.add_argument("names", nargs="*", help="proofs; all, if none is named")
    parser.add_argument("--proofs", type=Path, default=Path("tests/formal/proofs"), metavar="DIR")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    parser.add_argument("--jobs", type=int, default=max(1, (cpu_count() or 2) // 2))
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep models and logs there")
    return parser.parse_args()


def _check(
    kept: Path | None, progress: Console, file: Path, proof: Proof, bug: Bug | None
) -> Result:
    name = proof.name if bug is None else f"{proof.name}: {bug.name}"
    with tempfile.TemporaryDirectory(prefix="ginseng-formal-") as directory:
        place = Path(directory)
        if kept is not None:
            place = kept / "".join(c if c.isalnum() else "-" for c in name)
            place.mkdir(parents=True, exist_ok=True)
        try:
            if bug is None:
                result = check_proof(proof, file, place, environ)
            else:
                result = check_bug(proof, bug, file, place)
        except (BenchError, YosysError) as error:
            result = Result(name=name, passed=False, detail=str(error), seconds=0)
    verdict = "ok" if result.passed else "[red]FAILED[/red]"
    progress.print(f"{verdict} {name} ({result.detail}; {result.seconds:.1f} s)", highlight=False)
    return result


def _document(proof: Proof, result: Result, bugs: Sequence[Result]) -> dict[str, Any]:
    return {
        "name": proof.name,
        "claim": proof.claim,
        "configuration": proof.configuration,
        "generalises": proof.generalises,
        "assumptions": list(proof.assumptions),
        "engine": proof.engine.value,
        "depth": proof.depth,
        "proved": result.passed,
        "detail": result.detail,
        "seconds": round(result.seconds, 1),
        "bugs": [asdict(bug) for bug in bugs],
    }


def _table(rows: Sequence[dict[str, Any]]) -> Table:
    table = Table(title="Proofs", show_lines=True)
    columns = ("property", "configuration", "why it generalises", "by", "s", "assumed", "bugs")
    for column in columns:
        table.add_column(column)
    for row in rows:
        bugs = row["bugs"]
        missed = [bug["name"] for bug in bugs if not bug["passed"]]
        verdict = "" if row["proved"] else "[red]NOT PROVED[/red] "
        found = f"{len(bugs) - len(missed)} of {len(bugs)} found"
        table.add_row(
            f"{verdict}[bold]{row['name']}[/bold]: {row['claim']}",
            row["configuration"],
            row["generalises"],
            f"{row['engine']}: {row['detail']}",
            f"{row['seconds']:.0f}",
            "; ".join(row["assumptions"]) or "nothing",
            found + (f" [red]missed: {', '.join(missed)}[/red]" if missed else ""),
        )
    return table


def main() -> int:
    """Run, print, and return 1 if a proof fails or a planted bug is not found."""
    options = _arguments()
    found = find_proofs(options.proofs)
    unknown = set(options.names) - {proof.name for _, proof in found}
    if unknown or not found:
        raise BenchError(
            f"No proof is called {', '.join(sorted(unknown)) or 'anything'} in {options.proofs}; "
            f"there are {', '.join(proof.name for _, proof in found) or 'none'}"
        )
    chosen = [(f, p) for f, p in found if not options.names or p.name in options.names]
    check = partial(_check, options.keep and options.keep.resolve(), Console(stderr=True))
    with ThreadPoolExecutor(options.jobs) as pool:
        pending = [
            (
                proof,
                pool.submit(check, file, proof, None),
                [pool.submit(check, file, proof, bug) for bug in proof.bugs],
            )
            for file, proof in chosen
        ]
        rows = [
            _document(proof, whole.result(), [bug.result() for bug in bugs])
            for proof, whole, bugs in pending
        ]
    Console(width=160).print(_table(rows))
    if options.json:
        options.json.write_text(json.dumps({"proofs": rows}, indent=1) + "\n")
    return int(not all(row["proved"] and all(b["passed"] for b in row["bugs"]) for row in rows))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BenchError as error:
        sys.exit(str(error))
