import hashlib
import os
import re
import subprocess
import sys

import pytest
from amaranth import Module
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ginseng.soc.build import verilog

PROBES = {
    "verilog": """
from ginseng.soc.build import verilog
from ginseng.vta.dispatch import Dispatch
print(verilog(Dispatch(), "dispatch"))
""",
    "rom": """
from ginseng.isa.formats import MODEL_MONITOR_ROM
print(MODEL_MONITOR_ROM.hex())
""",
    "digest": """
from ginseng.isa.config import SystemConfig, CoreConfig
for config in (SystemConfig(), SystemConfig(tec=None), SystemConfig(core=CoreConfig(log_block=5))):
    print(config.canonical, config.digest.hex())
""",
}


@pytest.mark.parametrize("probe", PROBES)
def test_a_build_is_the_same_byte_for_byte_in_another_process_and_place(probe, tmp_path):
    digests = set()
    for seed in ("0", "1", "4321"):
        place = tmp_path / seed
        place.mkdir()
        output = subprocess.run(
            [sys.executable, "-c", PROBES[probe]],
            env=os.environ | {"PYTHONHASHSEED": seed},
            cwd=place,
            check=True,
            capture_output=True,
        ).stdout
        assert len(output) > 40
        digests.add(hashlib.sha256(output).hexdigest())
    assert len(digests) == 1


class PartlyConstant(wiring.Component):
    """A value of which one field never changes."""

    when: In(1)
    o: Out(data.StructLayout({"kind": 3, "data": 8}))

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.o.kind.eq(4)
        with m.If(self.when):
            m.d.comb += self.o.data.eq(0x5A)
        return m


def test_a_field_that_is_constant_stands_in_a_block_that_an_event_starts():
    text = verilog(PartlyConstant(), "top")
    # `always @*` around nothing but a constant waits for an event that never comes.
    block = re.search(r"always @\* begin\s+if \((\S+) \) begin end\s+o\[2:0\] = 3'h4;", text)
    assert f"reg {block[1]} = 0;" in text
