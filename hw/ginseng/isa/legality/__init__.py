"""Whether a program is legal (VTA specification §11, TEC specification §2, §3 and §6).

`check_program` reads a program as the hardware would and reports every rule that it breaks, each
with the instruction that breaks it. The compiler runs it on what it emits, the verifier on what it
is shown; a program without findings never faults, whatever its data is.
"""

from ginseng.isa.legality.check import check_program
from ginseng.isa.legality.finding import Finding, Rule
from ginseng.isa.legality.tensors import TensorLike, TensorRule

__all__ = ["Finding", "Rule", "TensorLike", "TensorRule", "check_program"]
