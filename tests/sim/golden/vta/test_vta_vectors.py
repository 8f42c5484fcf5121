"""The bare device against the reference simulator's programs (tests/vectors/vta/README.md)."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ginseng.golden.bare import BareDevice
from ginseng.golden.vta import RandomScheduler, Scheduler
from ginseng.isa.config import NAMED_CORES, SystemConfig
from ginseng.isa.registers import register_map

FOLDER = Path(__file__).parents[3] / "vectors" / "vta"
NAMES = sorted(path.name for path in FOLDER.glob("*.npz"))


@dataclass(frozen=True)
class Vector:
    meta: dict[str, Any]
    before: NDArray[np.uint8]
    after: NDArray[np.uint8]

    def device(self, **how: Any) -> BareDevice:
        return BareDevice(SystemConfig(core=NAMED_CORES[self.meta["config"]], tec=None), **how)

    def launch(self, device: BareDevice) -> NDArray[np.uint8]:
        """Run on ``device`` from a fresh image; return the image after."""
        registers = register_map(device.config)
        image = device.dram.bytes[: len(self.before)]
        image[:] = self.before
        device.write(registers["insn_addr"].offset, self.meta["insn_addr"])
        device.write(registers["insn_count"].offset, self.meta["insn_count"])
        device.write(registers["control"].offset, 1)
        assert device.cause is None
        assert device.read(registers["control"].offset) == 2
        return image


@pytest.fixture(scope="module")
def vector() -> Callable[[str], Vector]:
    def load(name: str) -> Vector:
        with np.load(FOLDER / name) as arrays:
            meta = json.loads(str(arrays["meta"]))
            before, changed = arrays["dram_before"], arrays["after_bytes"]
        after = before.copy()
        after[meta["after_lo"] : meta["after_lo"] + len(changed)] = changed
        return Vector(meta, before, after)

    return load


@pytest.fixture(scope="module")
def index() -> dict[str, dict[str, Any]]:
    cases = json.loads((FOLDER / "index.json").read_text())["cases"]
    return {case["name"]: case for case in cases}


def schedules(count: int) -> Iterator[Scheduler]:
    return (RandomScheduler(seed) for seed in range(count))


def test_the_index_lists_every_vector(index: dict[str, Any]) -> None:
    assert len(NAMES) == 62
    assert sorted(index) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_reference_program_leaves_exactly_the_reference_image(
    name: str, vector: Callable[[str], Vector], index: dict[str, Any]
) -> None:
    case = vector(name)
    device = case.device()
    after = case.launch(device)
    np.testing.assert_array_equal(after, case.after)
    assert hashlib.sha256(after.tobytes()).hexdigest() == index[name]["after_sha256"]
    # The reference does not count the steps of a reset.
    registers, stats = register_map(device.config), index[name]["stats"]
    assert device.read(registers["insns"].offset) == index[name]["insn_count"]
    assert device.read(registers["alu_uops"].offset) == stats["alu_counter"]
    gemm_uops = device.read(registers["gemm_uops"].offset)
    if "GEMM.reset" in index[name]["features"]:
        assert gemm_uops > stats["gemm_counter"]
    else:
        assert gemm_uops == stats["gemm_counter"]


@pytest.mark.parametrize("name", NAMES[::4])
def test_no_schedule_and_no_power_up_noise_changes_a_reference_result(
    name: str, vector: Callable[[str], Vector]
) -> None:
    case = vector(name)
    for seed, scheduler in enumerate(schedules(3)):
        after = case.launch(case.device(scheduler=scheduler, seed=seed))
        np.testing.assert_array_equal(after, case.after)


def test_programs_run_again_and_after_one_another_without_reset(
    vector: Callable[[str], Vector],
) -> None:
    cases = [vector(name) for name in NAMES if "hazard" in name]
    device = cases[0].device(scheduler=RandomScheduler(7))
    for case in (*cases, *cases[::-1], cases[0], cases[0]):
        np.testing.assert_array_equal(case.launch(device), case.after)
