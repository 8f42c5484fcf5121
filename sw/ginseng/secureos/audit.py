"""The audit log: one JSON line per event, no secrets."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

__all__ = ["AuditLog"]

#: Characters of a session's name in the log: enough to tell sessions apart, not to use one.
_NAME: Final = 8


class AuditLog:
    """Appends events to a file; without a path, to nothing.

    Values are strings, numbers and truth values. Bytes are refused: neither keys nor ciphertext
    belong here.

    Parameters
    ----------
    path : Path or None
        The file; it is created if it does not exist.

    """

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def record(self, event: str, *, session: str = "", **values: str | int | float) -> None:
        """Write one line, with the time in UTC."""
        if self._path is None:
            return
        line = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "event": event,
            **({"session": session[:_NAME]} if session else {}),
            **values,
        }
        with self._path.open("a") as file:
            file.write(json.dumps(line) + "\n")
