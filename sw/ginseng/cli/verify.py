"""`ginseng verify`: appraise a quote against reference values and a policy."""

from pathlib import Path
from typing import Annotated, Literal

import typer
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ginseng.cli.errors import UsageError
from ginseng.cli.measure import CommitmentOption, MaxRunsOption, MonitorRomOption, reference_values
from ginseng.cli.output import JsonOption, Output
from ginseng.secureos import Policy, verify_quote

__all__ = ["register"]

#: A file beyond this is refused unread: no quote or certificate comes near.
_LIMIT = 1 << 20


def _read(path: Path, what: str) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(_LIMIT + 1)
    except OSError as error:
        raise UsageError(f"The {what} {path} cannot be read: {error.strerror}") from None
    if len(data) > _LIMIT:
        raise UsageError(f"The {what} {path} is longer than {_LIMIT} bytes")
    return data


def _certificate(path: Path) -> bytes:
    """Return a certificate as DER, whichever form the file has."""
    data = _read(path, "certificate")
    try:
        if data.startswith(b"-----"):
            return x509.load_pem_x509_certificate(data).public_bytes(Encoding.DER)
        return x509.load_der_x509_certificate(data).public_bytes(Encoding.DER)
    except ValueError:
        raise UsageError(f"{path} is no X.509 certificate, neither PEM nor DER") from None


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def verify(
        quote: Annotated[Path, typer.Argument(help="A COSE_Sign1 quote.")],
        nonce: Annotated[str, typer.Option(help="The challenge it must answer, hexadecimal.")],
        chain: Annotated[list[Path], typer.Option(help="Certificates, the device's first.")],
        root: Annotated[list[Path], typer.Option(help="Manufacturers that you trust.")],
        policy: Annotated[Path, typer.Option(help="What you demand of a device, JSON.")],
        program: Annotated[
            Path | None, typer.Option(help="The sealed .ginseng file that shall run.")
        ] = None,
        commitment: CommitmentOption = None,
        max_runs: MaxRunsOption = 1,
        monitor_rom: MonitorRomOption = "model",
        stage: Annotated[
            str, typer.Option(help="'locked' before sealed imports, 'final' after.")
        ] = "final",
        as_json: JsonOption = False,
    ) -> None:
        """Appraise a quote: exit status 0 if every claim is as expected, 1 naming one that is not.

        The reference values come from the program and the commitments, or from the policy.
        """
        try:
            challenge = bytes.fromhex(nonce)
        except ValueError:
            raise UsageError(f"--nonce is hexadecimal, not {nonce!r}") from None
        if stage not in ("locked", "final"):
            raise UsageError(f"--stage is 'locked' or 'final', not {stage!r}")
        at: Literal["locked", "final"] = "locked" if stage == "locked" else "final"
        verdict = verify_quote(
            _read(quote, "quote"),
            nonce=challenge,
            chain=[_certificate(path) for path in chain],
            roots=[_certificate(path) for path in root],
            policy=Policy.load(policy),
            measurements=None
            if program is None
            else reference_values(program, commitment, max_runs, monitor_rom),
            stage=at,
        )
        output = Output(as_json)
        if verdict.accepted:
            output.say(f"[green]accepted[/green]: {verdict.reason}")
        else:
            output.say(f"[red]refused[/red]: {verdict.claim}: {verdict.reason}")
        output.document(verdict.document)
        if not verdict.accepted:
            raise typer.Exit(1)
