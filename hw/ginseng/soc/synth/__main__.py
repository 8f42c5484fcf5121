"""``python -m ginseng.soc.synth``: synthesise a build and hold it to its limits."""

import argparse
import json
import sys
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console

from ginseng.isa.config import SystemConfig
from ginseng.soc.bare import BareSoc
from ginseng.soc.protected import Protected
from ginseng.soc.synth.area import LIMITS, PERIOD_NS, Area, exceeded
from ginseng.soc.synth.ecp5 import place_blocks
from ginseng.soc.synth.errors import SynthError
from ginseng.soc.synth.flow import synthesise
from ginseng.soc.synth.report import document, show
from ginseng.soc.synth.timing import longest_paths
from ginseng.soc.yosys import YosysError
from ginseng.tec.core import Tec


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="nox -s synth --", description=__doc__)
    parser.add_argument("--build", choices=LIMITS, default="bare", help="what to synthesise")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report there too")
    parser.add_argument("--paths", type=int, default=30, help="slowest ends to report")
    parser.add_argument("--detailed", type=int, default=3, help="paths to print with their cells")
    parser.add_argument(
        "--baseline", type=Path, metavar="FILE", help="an earlier report, to name what grew"
    )
    parser.add_argument(
        "--ecp5", action="store_true", help="also place and route critical blocks on an ECP5"
    )
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep netlists and logs there")
    return parser.parse_args()


def _build(name: str) -> tuple[Any, SystemConfig]:
    """Return what to synthesise, and its configuration."""
    if name == "bare":
        config = SystemConfig(tec=None)
        return BareSoc(config, packed=True), config
    config = SystemConfig()
    return (Tec(config) if name == "tec" else Protected(config, packed=True)), config


def _blocks(path: Path) -> dict[str, Area]:
    names = Area.__dataclass_fields__
    rows = json.loads(path.read_text())["blocks"]
    return {row["name"]: Area(**{k: v for k, v in row.items() if k in names}) for row in rows}


def main() -> int:
    """Run, print, and return 1 if a limit is exceeded or a path is too long."""
    options = _arguments()
    progress = Console(stderr=True)
    component, config = _build(options.build)
    result = synthesise(component, options.build, place=options.keep, say=progress.print)
    progress.print("time")
    paths = longest_paths(result.netlist)
    report = document(
        result,
        paths,
        limits=LIMITS[options.build],
        count=options.paths,
        digest=config.digest.hex(),
        tool=f"pyosys {version('pyosys')}",
    )
    if options.ecp5:
        report["ecp5"] = [asdict(block) for block in place_blocks(say=progress.print)]
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    show(report, Console(width=160), detailed=options.detailed)

    baseline = _blocks(options.baseline) if options.baseline else None
    broken = list(exceeded(result.total, result.blocks, baseline, limits=LIMITS[options.build]))
    if paths and paths[0].ns > PERIOD_NS:
        broken.append(
            f"Longest path is {paths[0].ns:.2f} ns, more than {PERIOD_NS:g}: "
            f"{paths[0].start} to {paths[0].end}"
        )
    for sentence in broken:
        progress.print(f"[red]{sentence}")
    return int(bool(broken))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (SynthError, YosysError) as error:
        sys.exit(str(error))
