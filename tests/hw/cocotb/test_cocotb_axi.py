"""The DMA and the whole bare build beside cocotbext-axi's memory, AXI3 and AXI4."""

import numpy as np
import pytest
from amaranth.lib import data

from ginseng.bench.harness import AsAxi4, DmaHarness
from ginseng.bench.programs import random_program
from ginseng.bench.transfers import random_reads, random_stores
from ginseng.bench.vpi import run_tests
from ginseng.bus.plan import bases_layout
from ginseng.bus.port import StoreDescriptor
from ginseng.golden.bare import BareDevice
from ginseng.golden.dram import Dram
from ginseng.golden.plain import PlainPort
from ginseng.isa.config import BusConfig, BusProtocol, CoreConfig, Memory, SystemConfig
from ginseng.isa.registers import register_map
from ginseng.isa.transfer import Client, Direction, TransferDescriptor
from ginseng.soc.bare import BareSoc

pytestmark = pytest.mark.rtl

WINDOW = 1 << 16
CORE = CoreConfig()
READERS = (Client.FETCH, Client.COMPUTE, Client.INP, Client.WGT)


def word(layout, **fields):
    layout, value = data.Layout.cast(layout), 0
    for name, item in fields.items():
        value |= int(item) << layout[name].offset
    return value


def descriptor(transfer, direction=Direction.READ):
    return word(
        TransferDescriptor,
        direction=direction,
        memory=transfer.memory,
        dram_base=transfer.dram_base,
        rows=transfer.rows,
        row_elements=transfer.row_elements,
        stride=transfer.stride,
    )


def beats(raw, nbytes):
    """Return dense beats with the masks of their bytes."""
    found = []
    for at in range(0, len(raw), nbytes):
        part = raw[at : at + nbytes]
        found.append((int.from_bytes(part, "little"), (1 << 8 * len(part)) - 1))
    return found


def run(component, module, plan, before, after, folder):
    for name, image in (("before", before), ("after", after)):
        plan[name] = str(folder / f"{name}.bin")
        (folder / f"{name}.bin").write_bytes(image.tobytes())
    run_tests(component, f"ginseng.bench.{module}", scratch=folder, plan=plan)


@pytest.mark.parametrize(
    ("protocol", "bits"),
    [
        (BusProtocol.AXI3, 64),
        pytest.param(BusProtocol.AXI4, 64, marks=pytest.mark.campaign),
        pytest.param(BusProtocol.AXI4, 512, marks=pytest.mark.campaign),
    ],
)
def test_the_dma_moves_bytes_beside_another_memory(protocol, bits, tmp_path):
    bus = BusConfig(protocol=protocol, data_bits=bits, window_bytes=WINDOW)
    dram = Dram(0, WINDOW)
    dram.bytes[:] = np.random.default_rng(9).integers(0, 256, WINDOW, np.uint8)
    before = dram.bytes.copy()
    golden = PlainPort(dram, CORE, bus)
    golden.bases[Memory.OUT] = WINDOW // 2
    streams = {"in": {}, "out": {}}
    done = {}
    for client in READERS:
        name = client.name.lower()
        reads = random_reads(CORE, client, WINDOW // 2, count=25, seed=bits)
        streams["in"][f"{name}__descriptor"] = [descriptor(transfer) for transfer in reads]
        streams["out"][f"{name}__beat"] = [
            beat
            for transfer in reads
            for beat in beats(golden.read(client, transfer).tobytes(), bus.beat_bytes)
        ]
        done[name] = len(reads)
    stores = random_stores(CORE, WINDOW // 2, count=25, seed=bits)
    inner = (1 << data.Layout.cast(TransferDescriptor).size) - 1
    at = data.Layout.cast(StoreDescriptor)["transfer"].offset
    streams["in"]["store__descriptor"] = [
        (descriptor(store.transfer, Direction.WRITE) & inner) << at for store in stores
    ]
    streams["in"]["store__beat"] = [
        value for store in stores for value, _ in beats(store.data.tobytes(), bus.beat_bytes)
    ]
    done["store"] = len(stores)
    for store in stores:
        golden.write(store.transfer, store.data, 0)
    constants = {"bases": word(bases_layout(), out=WINDOW // 2), "halt": 0}
    plan = {"streams": streams, "done": done, "constants": constants}
    run(AsAxi4(DmaHarness(CORE, bus), bus), "axi_tests", plan, before, dram.bytes, tmp_path)


@pytest.mark.campaign
@pytest.mark.parametrize("protocol", [BusProtocol.AXI3, BusProtocol.AXI4])
def test_the_whole_core_runs_a_program_beside_another_memory(protocol, tmp_path):
    bus = BusConfig(protocol=protocol, window_bytes=1 << 20)
    config = SystemConfig(tec=None, bus=bus)
    program = random_program(config.core, 99)
    golden = BareDevice(config)
    golden.dram.bytes[: len(program.image)] = program.image
    before = golden.dram.bytes.copy()
    registers = register_map(config)
    writes = [
        (registers["insn_addr"].offset, program.insn_addr),
        (registers["insn_count"].offset, program.insn_count),
        (registers["control"].offset, 1),
    ]
    for offset, value in writes:
        golden.write(offset, value)
    assert golden.cause is None
    plan = {"registers": writes, "status": registers["control"].offset, "finished": 2}
    run(AsAxi4(BareSoc(config), bus), "soc_tests", plan, before, golden.dram.bytes, tmp_path)
