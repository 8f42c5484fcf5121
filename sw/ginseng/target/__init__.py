"""Ginseng as a target of TVM: partition a Relax module, build it, run it in TVM's machine.

`partition` marks what the core can do, by the patterns that `register` enters in Relax's registry;
the code generator ``relax.ext.ginseng`` makes one protected program of each marked region; and when
TVM's virtual machine comes to a region, a protected session runs it on a board. What is not marked
stays on the CPU, outside of the protection: see docs/tvm.md.
"""

from ginseng.target.codegen import register
from ginseng.target.errors import TargetError
from ginseng.target.partition import partition
from ginseng.target.region import Region, close_regions

__all__ = ["Region", "TargetError", "close_regions", "partition", "register"]
