"""The tensor encryption core: what stands between the VTA core and an untrusted DRAM.

`Tec` is the whole: it answers the core as a `MemoryPort` and the monitor through its other methods.
AES-GCM is the library's. TEC specification §2 to §7.
"""

from ginseng.golden.tec.core import Tec
from ginseng.golden.tec.errors import TecError
from ginseng.isa.table import Limits

__all__ = ["Limits", "Tec", "TecError"]
