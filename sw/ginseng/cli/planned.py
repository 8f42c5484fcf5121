"""Commands whose subject is not there yet: they say so and fail."""

from typing import Final

import typer

from ginseng.cli.errors import UsageError

__all__ = ["register"]

_PLANNED: Final = {
    "provision": "making device identities as files",
    "serve": "the runtime behind HTTP, for remote owners",
    "sterling": "the data marketplace",
}


def register(app: typer.Typer) -> None:
    """Add one command for each of them, hidden from the help."""
    for name, what in _PLANNED.items():
        _register(app, name, what)


def _register(app: typer.Typer, name: str, what: str) -> None:
    @app.command(
        name,
        hidden=True,
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    )
    def planned() -> None:
        raise UsageError(f"'ginseng {name}' ({what}) is not built yet; see CHANGELOG.md")
