"""Where an installation keeps what it can make again: built models, tuned tilings."""

import os
from pathlib import Path

__all__ = ["cache_directory"]


def cache_directory() -> Path:
    """Return ``GINSENG_CACHE``, or ``ginseng`` in the user's cache directory."""
    chosen = os.environ.get("GINSENG_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ginseng"
