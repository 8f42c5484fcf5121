"""What the compiler makes of networks, how long it takes, and whether the device agrees.

Each network is measured in a process of its own (``python -m ginseng.benchmarks.compiler NAME``),
so that its peak of memory is its own and nothing of an earlier one is warm.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from math import log10
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ginseng.benchmarks.errors import BenchmarkError, MissingPackageError
from ginseng.benchmarks.networks import NETWORKS, Network
from ginseng.benchmarks.protected_run import run_protected
from ginseng.benchmarks.session_cost import setup_cost
from ginseng.compiler import CompilerError, compile_model
from ginseng.driver import DriverError, open_board
from ginseng.isa.config import BusConfig, BusProtocol, SystemConfig
from ginseng.program import dumps
from ginseng.secureos import local_session

__all__ = ["measure", "measure_network"]

#: Exit status of a process whose network needs a package that is not installed.
_MISSING: Final = 3
#: Clocks at which cycles are shown as time: what small and large FPGAs reach.
_CLOCKS_MHZ: Final = (100, 250)
#: The bus of `ginseng bench vta`, whose reference memory the cycles assume: bursts of 256 beats.
_CONFIG: Final = SystemConfig(bus=BusConfig(protocol=BusProtocol.AXI4))


def measure(
    names: Sequence[str] = (), progress: Callable[[str], None] | None = None
) -> dict[str, Any]:
    """Measure networks, each in a process of its own.

    Parameters
    ----------
    names : sequence of str
        Of `NETWORKS`; by default all.
    progress : callable or None
        Gets a line of text now and then.

    Returns
    -------
    dict
        ``{"networks": [row, ...], "left_out": [{"name", "reason"}, ...]}``: rows as
        `measure_network` returns them, and networks nobody named whose package is not installed.

    Raises
    ------
    BenchmarkError
        If there is no network of a name, or one cannot be measured.

    """
    unknown = [name for name in names if name not in NETWORKS]
    if unknown:
        raise BenchmarkError(f"There is no network {unknown[0]}; there are {', '.join(NETWORKS)}")
    say = progress or (lambda _: None)
    rows, left_out = [], []
    for name in names or NETWORKS:
        try:
            row = _in_process(name, say)
        except MissingPackageError as error:
            if names:
                raise
            left_out.append({"name": name, "reason": str(error)})
            continue
        rows.append(row)
        verdict = "bit-exact" if row["bit_exact"] else "NOT BIT-EXACT"
        say(f"{name}: {row['seconds']:.0f} s, {row['cycles']:,} cycles, {verdict}")
    return {"networks": rows, "left_out": left_out}


def _in_process(name: str, say: Callable[[str], None]) -> dict[str, Any]:
    command = [sys.executable, "-m", "ginseng.benchmarks.compiler", name]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        last = ""
        for line in child.stderr:
            last = line.strip() or last
            say(line.rstrip())
        output = child.stdout.read()
    if child.returncode == _MISSING:
        raise MissingPackageError(last)
    if child.returncode:
        raise BenchmarkError(f"Network {name} cannot be measured: {last}")
    row: dict[str, Any] = json.loads(output)
    return row


def measure_network(network: Network, progress: Callable[[str], None]) -> dict[str, Any]:
    """Compile a network, run its samples through a protected session, and compare.

    The session is one of the model board: attested, sealed, every transfer encrypted.

    Returns
    -------
    dict
        ``seconds`` of compilation and those that the processor spent on it (``cpu_seconds``, which
        a busy machine does not lengthen), ``peak_mb`` of this process until then; ``rows`` of the
        tensor table, ``bytes`` of the file; ``macs``; ``cycles``, ``utilisation`` and ``overhead``
        of protection, all modelled; milliseconds and images per second at two clocks;
        ``setup_bytes`` and ``setup_cycles`` of `setup_cost`, and after how many ``setup_images``
        they are a tenth of the whole; ``samples`` that ran, whether they are ``bit_exact`` against
        NumPy, signal to noise of the device's outputs against the float network's in ``snr_db``,
        and the accuracies of both where samples have labels.

    """
    config = _CONFIG
    start, start_cpu = time.perf_counter(), time.process_time()
    compiled = compile_model(
        network.model,
        {network.input: network.calibration},
        config=config,
        name=network.name,
        progress=progress,
    )
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - start_cpu
    peak = _peak_mb()
    progress(f"{network.name}: runs {len(network.samples)} samples")
    program = compiled.program
    with (
        open_board("model", config=config) as board,
        local_session(board, program) as session,
    ):
        outputs, exact = run_protected(session, program, compiled.graph, network.samples)
    macs = sum(layer.macs for layer in program.layers)
    cycles = sum(layer.cycles_protected for layer in program.layers)
    setup = setup_cost(program)
    times = {}
    for clock in _CLOCKS_MHZ:
        times[f"ms_{clock}_mhz"] = cycles / clock / 1e3
        times[f"images_per_second_{clock}_mhz"] = clock * 1e6 / cycles
    return {
        "name": network.name,
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "peak_mb": peak,
        "rows": len(program.tensors),
        "bytes": len(dumps(program)),
        "macs": macs,
        "cycles": cycles,
        "utilisation": macs / (cycles * config.core.macs),
        "overhead": cycles / sum(layer.cycles_plain for layer in program.layers) - 1,
        **times,
        "setup_bytes": setup.nbytes,
        "setup_cycles": setup.cycles,
        "setup_images": setup.images(cycles),
        "samples": len(network.samples),
        "bit_exact": exact,
        "snr_db": _decibels(network.results, outputs),
        "accuracy_float": _accuracy(network, network.results),
        "accuracy_device": _accuracy(network, outputs),
    }


def _peak_mb() -> float:
    """Return the most memory that this program has held, in MiB.

    Not getrusage's: that of a child begins with what its parent held at the fork.
    """
    status = Path("/proc/self/status").read_text(encoding="ascii")
    kib = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(kib) / 1024


def _decibels(exact: NDArray[np.float32], got: NDArray[np.float32]) -> float | None:
    """Return signal over noise, None without noise."""
    noise = float(np.square(got - exact, dtype=np.float64).sum())
    signal = float(np.square(exact, dtype=np.float64).sum())
    return 10 * log10(signal / noise) if noise else None


def _accuracy(network: Network, outputs: NDArray[np.float32]) -> float | None:
    if network.labels is None:
        return None
    return float(np.mean(outputs.argmax(1) == network.labels))


def _main(name: str) -> None:
    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    try:
        json.dump(measure_network(NETWORKS[name](), say), sys.stdout)
    except MissingPackageError as error:
        say(str(error))
        sys.exit(_MISSING)
    except (BenchmarkError, CompilerError, DriverError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    _main(sys.argv[1])
