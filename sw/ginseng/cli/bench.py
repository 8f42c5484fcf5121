"""`ginseng bench`: the measured numbers."""

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from ginseng.cli.errors import UsageError
from ginseng.cli.output import JsonOption, Output

__all__ = ["application"]

_PLANNED: Final = {
    "myelin": "differentially private training",
    "sterling": "the data marketplace",
}


#: The tables of `ginseng bench compiler`, each of columns that fit a line.
_COMPILER: Final = {
    "Compilation": ("seconds", "cpu_seconds", "peak_mb", "rows", "bytes"),
    "Modelled, with protection": ("macs", "cycles", "utilisation", "overhead"),
    "At two clocks": (
        "ms_100_mhz",
        "images_per_second_100_mhz",
        "ms_250_mhz",
        "images_per_second_250_mhz",
    ),
    "Set-up of a session": ("setup_bytes", "setup_cycles", "setup_images"),
    "Run": ("samples", "bit_exact", "snr_db", "accuracy_float", "accuracy_device"),
}
#: Columns that fit a terminal of 80 characters.
_WIDE: Final = 6


_LayerOption = Annotated[
    list[str] | None, typer.Option("--layer", help="Only this layer, C2 to C11; repeat it.")
]


def _number(value: object) -> str:
    if value is None:
        return "n/a"
    if isinstance(value, bool):
        return "yes" if value else "[red]NO[/red]"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _rows(output: Output, title: str, rows: list[dict[str, Any]]) -> None:
    """Show one row per line, or one per column where the lines would not fit."""
    columns = list(rows[0])
    if len(columns) <= _WIDE:
        output.table(title, columns, ([_number(row[c]) for c in columns] for row in rows))
        return
    head, *rest = columns
    lines = ([column, *(_number(row[column]) for row in rows)] for column in rest)
    output.table(title, [head, *(str(row[head]) for row in rows)], lines)


def application() -> typer.Typer:
    """Return the command group."""
    app = typer.Typer(help="Measure; each subcommand prints JSON on demand.", no_args_is_help=True)

    @app.command("compiler")
    def compiler(
        network: Annotated[
            list[str] | None, typer.Option(help="Only this one; may be repeated.")
        ] = None,
        as_json: JsonOption = False,
    ) -> None:
        """Compile and run networks: time, memory, rows, cycles, exactness, accuracy."""
        from ginseng.benchmarks import compiler as subject

        output = Output(as_json)
        document = subject.measure(network or (), progress=output.say)
        for title, columns in _COMPILER.items():
            rows = [{c: row[c] for c in ("name", *columns)} for row in document["networks"]]
            _rows(output, title, rows)
        output.document(document)
        if not all(network["bit_exact"] for network in document["networks"]):
            raise typer.Exit(1)

    @app.command("golden")
    def golden(as_json: JsonOption = False) -> None:
        """Speed of the golden core, and of encoding, decoding and checking instructions."""
        from ginseng.benchmarks import isa, vta_golden

        output = Output(as_json)
        document = {"vta": vta_golden.measure(), "isa": isa.measure()}
        for title, subject in document.items():
            flat = {k: v for k, v in subject.items() if not isinstance(v, list)}
            if flat:
                _rows(output, title, [flat])
            for name, rows in subject.items():
                if isinstance(rows, list) and rows:
                    _rows(output, f"{title}: {name}", rows)
        output.document(document)

    app.command("vta")(_vta)
    app.command("tec")(_tec)
    app.command("privacy")(_privacy)
    for name, what in _PLANNED.items():
        _plan(app, name, what)
    return app


def _privacy(
    as_json: JsonOption = False,
    plot: Annotated[
        Path | None, typer.Option(help="Where the curves go, as PNG (needs ginseng[plot]).")
    ] = None,
    models: Annotated[
        list[str] | None,
        typer.Option("--model", help="Only this one: linear, convolutional; repeat it."),
    ] = None,
    epsilons: Annotated[
        list[float] | None, typer.Option("--epsilon", help="Only this one; repeat it.")
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Runs of each.")] = 3,
) -> None:
    """Learn real digits privately: accuracy against epsilon."""
    try:
        from ginseng.benchmarks.privacy import EPSILONS, measure
        from ginseng.benchmarks.privacy_plot import curves
    except ModuleNotFoundError as error:
        raise UsageError(f"This needs {error.name}; pip install 'ginseng[myelin,demo]'") from None

    output = Output(as_json)
    if plot is not None:
        # Before minutes of training, not after.
        draw = curves(plot)
    document = measure(
        models=models or (), epsilons=epsilons or EPSILONS, seeds=seeds, progress=output.note
    )
    rows = [
        (
            row["model"],
            f"{row['epsilon']:.3f}",
            f"{row['multiplier']:.3f}",
            f"{100 * row['accuracy']:.2f} %",
            f"{100 * row['lowest']:.2f} to {100 * row['highest']:.2f} %",
        )
        for row in document["rows"]
    ]
    columns = ("model", "epsilon", "noise", "accuracy", "of seeds")
    output.table(
        f"Digits, {document['seeds']} seeds, delta {document['rows'][0]['delta']:g}", columns, rows
    )
    if plot is not None:
        draw(document)
        output.say(f"wrote {plot}")
    output.document(document)


def _vta(
    as_json: JsonOption = False,
    plot: Annotated[
        Path | None, typer.Option(help="Where the roofline goes, as PNG (needs ginseng[plot]).")
    ] = None,
    layers: _LayerOption = None,
) -> None:
    """Run ResNet-18 C2 to C11 on the gates in Verilator: cycles, utilisation, stalls, bytes."""
    try:
        from ginseng.benchmarks.vta import measure
        from ginseng.benchmarks.vta_plot import roofline
    except ModuleNotFoundError as error:
        raise UsageError(f"This needs {error.name}; pip install 'ginseng[rtl,demo]'") from None

    output = Output(as_json)
    if plot is not None:
        # Before minutes of simulation, not after.
        draw = roofline(plot)
    document = measure(layers=layers or (), progress=output.note)
    for run in document["runs"]:
        rows = [
            (
                row["name"],
                row["count"],
                f"{row['cycles']:,}",
                f"{100 * row['utilisation']:.1f} %",
                f"{row['bytes']:,}",
                f"{100 * row['predicted_error']:+.1f} %",
            )
            for row in run["layers"]
        ]
        columns = ("layer", "count", "cycles", "MACs busy", "bytes", "model's error")
        output.table(f"The {run['memory']} memory: {run['total_cycles']:,} cycles", columns, rows)
        _counters(output, run)
    units = document["units"]
    output.table(
        f"Units alone, over the {document['memory']} memory",
        ("unit", "cycles", "ideal", "of ideal"),
        (
            (u["name"], f"{u['cycles']:,}", f"{u['ideal']:,}", f"{100 * u['efficiency']:.1f} %")
            for u in units
        ),
    )
    output.say(
        f"simulated {document['sim_cycles_per_second']:,.0f} cycles a second, "
        f"{document['sim_cycles_per_cpu_second']:,.0f} a second of the processor"
    )
    if plot is not None:
        draw(document)
        output.say(f"wrote {plot}")
    output.document(document)


def _counters(output: Output, run: dict[str, Any]) -> None:
    """Show what the device counted, one counter per line."""
    layers = run["layers"]
    names = [name for name in layers[0]["counters"] if name != "cycles"]
    output.table(
        f"What the device counted over the {run['memory']} memory",
        ("counter", *(row["name"] for row in layers)),
        ([name, *(f"{row['counters'][name]:,}" for row in layers)] for name in names),
    )


def _tec(
    as_json: JsonOption = False,
    plot: Annotated[
        Path | None, typer.Option(help="Where the bars go, as PNG (needs ginseng[plot]).")
    ] = None,
    layers: _LayerOption = None,
    networks: Annotated[
        list[str] | None,
        typer.Option("--network", help="Only this one: mlp, resnet32, vgg9; repeat it."),
    ] = None,
) -> None:
    """Run layers and networks on gates with the TEC and without: cycles, bytes, the lane."""
    try:
        from ginseng.benchmarks.tec import measure
        from ginseng.benchmarks.tec_plot import overheads
    except ModuleNotFoundError as error:
        raise UsageError(f"This needs {error.name}; pip install 'ginseng[rtl,demo]'") from None

    output = Output(as_json)
    if plot is not None:
        # Before minutes of simulation, not after.
        draw = overheads(plot)
    document = measure(layers=layers or (), networks=networks or (), progress=output.note)
    for run in document["runs"]:
        rows = [
            (
                row["name"],
                f"{row['plain']['cycles']:,}",
                f"{row['protected']['cycles']:,}",
                _added(row["cycle_ratio"]),
                f"{row['plain']['bytes']:,}",
                f"{row['protected']['bytes']:,}",
                _added(row["byte_ratio"]),
            )
            for row in run["rows"]
        ]
        columns = ("", "cycles plain", "TEC", "added", "bytes plain", "TEC", "added")
        output.table(f"With the TEC and without, the {run['memory']} memory", columns, rows)
        _traffic(output, run)
        for what in ("cycles", "bytes"):
            found = run[what]
            means = ", ".join(
                f"{name} {_added(found[name])}"
                for name in ("layers", "networks", "all")
                if name in found
            )
            worst = f"worst {found['worst']['name']} {_added(found['worst']['ratio'])}"
            output.say(f"{what}, geometric means: {means}; {worst}")
    if plot is not None:
        draw(document)
        output.say(f"wrote {plot}")
    output.document(document)


def _added(ratio: float) -> str:
    return f"{100 * (ratio - 1):+.2f} %"


def _traffic(output: Output, run: dict[str, Any]) -> None:
    """Show what moved behind the TEC, and how busy its lane was."""
    rows = []
    for row in run["rows"]:
        clients = row["clients"].values()
        shares = {what: sum(c[what] for c in clients) for what in ("named", "over_fetch", "tags")}
        rows.append(
            (
                row["name"],
                *(f"{c['protected']:,}" for c in clients),
                *(f"{100 * n / row['protected']['bytes']:.2f} %" for n in shares.values()),
                *(f"{100 * row['lane'][unit]:.1f} %" for unit in ("aes", "ghash")),
            )
        )
    clients = tuple(run["rows"][0]["clients"])
    columns = ("", *clients, "named", "over-fetch", "tags", "AES busy", "GHASH busy")
    output.table(f"Bytes behind the TEC, the {run['memory']} memory", columns, rows)


def _plan(app: typer.Typer, name: str, what: str) -> None:
    @app.command(
        name,
        hidden=True,
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    )
    def planned() -> None:
        raise UsageError(f"'ginseng bench {name}' measures {what}, which is not built yet")
