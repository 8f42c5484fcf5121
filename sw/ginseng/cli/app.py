"""Puts the subcommands together, and turns every expected error into one line."""

import sys
from collections.abc import Sequence

import typer

from ginseng.benchmarks.errors import BenchmarkError
from ginseng.cli import bench, compile, demo, measure, myelin, planned, run, verify, vta
from ginseng.cli.errors import UsageError
from ginseng.compiler.errors import CompilerError
from ginseng.driver import DriverError
from ginseng.isa.errors import IsaError
from ginseng.myelin.errors import MyelinError
from ginseng.program import ProgramError
from ginseng.secureos.errors import SecureOsError

__all__ = ["main"]

_EXPECTED = (
    BenchmarkError,
    CompilerError,
    DriverError,
    IsaError,
    MyelinError,
    ProgramError,
    SecureOsError,
    UsageError,
)


def _application() -> typer.Typer:
    app = typer.Typer(
        name="ginseng",
        help="Machine learning that nobody has to trust the operator for.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
    )
    for module in (demo, compile, run, measure, verify):
        module.register(app)
    app.add_typer(vta.application(), name="vta")
    app.add_typer(bench.application(), name="bench")
    app.add_typer(myelin.application(), name="myelin")
    planned.register(app)
    return app


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status.

    Status 0 is success, 1 an expected failure explained in one line, 2 a wrong call.
    """
    try:
        code = _application()(
            args=list(arguments) if arguments is not None else None, standalone_mode=False
        )
        return code if isinstance(code, int) else 0
    except typer.Exit as stop:
        return stop.exit_code
    except (typer.Abort, KeyboardInterrupt):
        return _fail("stopped", 130)
    except typer.TyperException as error:
        message = error.format_message() if isinstance(error, typer.BadParameter) else str(error)
        # Without arguments the message is the whole help, already shown.
        return _fail(f"{message} (see 'ginseng --help')", 2) if message else 2
    except _EXPECTED as error:
        return _fail(str(error), 1)
    except BrokenPipeError:
        # The reader of our output left, as `| head` does.
        sys.stderr.close()
        return 1


def _fail(message: str, code: int) -> int:
    print(f"ginseng: {' '.join(message.split())}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
