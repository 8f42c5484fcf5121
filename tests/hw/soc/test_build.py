import hashlib
import os
import subprocess
import sys

import pytest

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
