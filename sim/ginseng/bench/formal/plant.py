"""Plants bugs in a copy of the hardware's sources."""

import importlib.util
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from ginseng.bench.errors import BenchError
from ginseng.bench.formal.proof import Bug

__all__ = ["plant"]


def plant(bug: Bug, place: Path) -> Mapping[str, str]:
    """Copy the root that holds the bug's module to ``place``, and change the module there.

    Returns
    -------
    mapping of str to str
        The environment in which Python imports the copy.

    Raises
    ------
    BenchError
        If the module is not found, or does not contain the text exactly once.

    """
    spec = importlib.util.find_spec(bug.module)
    if spec is None or spec.origin is None:
        raise BenchError(f"Bug {bug.name!r} names no module: {bug.module}")
    origin = Path(spec.origin)
    parts = bug.module.split(".")
    # The root is above the namespace `ginseng`.
    depth = len(parts) + (origin.name == "__init__.py")
    root = origin.parents[depth - 1]
    count = origin.read_text().count(bug.old)
    if count != 1:
        raise BenchError(
            f"Bug {bug.name!r} is stale: its text occurs {count} times in {bug.module}, not once; "
            f"rewrite it for what is there now:\n{bug.old}"
        )
    copy = place / "root"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(root, copy, ignore=shutil.ignore_patterns("__pycache__"))
    target = copy / origin.relative_to(root)
    target.write_text(target.read_text().replace(bug.old, bug.new))
    others = os.environ.get("PYTHONPATH")
    paths = [str(copy), *([others] if others else [])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths), "PYTHONDONTWRITEBYTECODE": "1"}
