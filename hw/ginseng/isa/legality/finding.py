"""What the checker reports."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

__all__ = ["FINDINGS_PER_RULE", "Finding", "Report", "Rule"]

#: Findings kept of each rule: a hostile program shall not fill the verifier's memory.
FINDINGS_PER_RULE: Final = 256


class Rule(StrEnum):
    """The rules of a legal program, by the name that a finding carries."""

    #: The stream is a whole number of instructions.
    LENGTH = "length"
    #: VTA specification §2: opcodes 0 to 4.
    OPCODE = "opcode"
    #: §11.2: which memories LOAD and STORE take.
    MEMORY = "memory"
    #: §2: ALU operations 0 to 4.
    ALU_OP = "alu-op"
    #: §2: bits of no field are zero.
    RESERVED = "reserved"
    #: §11.2: STORE has no padding.
    STORE_PAD = "store-pad"
    #: §11.3: token bits that a queue has no neighbour for.
    TOKEN_BITS = "token-bits"
    #: §11.1: what LOAD and STORE touch of a scratchpad.
    SRAM_RANGE = "sram-range"
    #: §11.1: the micro-ops of a GEMM or ALU.
    UOP_RANGE = "uop-range"
    #: §11.1: the scratchpad indices of every step.
    INDEX_RANGE = "index-range"
    #: §11.3: every pop has its push earlier in the stream.
    TOKEN_POP = "token-pop"
    #: §11.3: every counter returns to zero.
    TOKEN_LEFT = "token-left"
    #: TEC specification §7: no counter saturates, whatever the timing.
    TOKEN_LIMIT = "token-limit"
    #: VTA specification §11.6: FINISH stands last, and after everything.
    FINISH = "finish"
    #: §11.4: conflicting accesses of two queues are ordered by tokens.
    RACE = "race"
    #: §11.5: nothing is read that was never written.
    UNINITIALISED = "uninitialised"
    #: Transfers stay inside the DRAM that was given.
    DRAM_RANGE = "dram-range"
    #: Micro-ops are known before the program runs: not what a STORE wrote.
    MICRO_OPS = "micro-ops"

    #: TEC specification §3: rows have a size and a handle of their own, writable chunks a bit each.
    TABLE = "table"
    #: TEC specification §2: the handle is a row of the table.
    HANDLE = "handle"
    #: §3: R for loads, W for stores.
    PERMISSION = "permission"
    #: §2: micro-ops come from domain 3 only.
    DOMAIN = "domain"
    #: §2: rows end inside their tensor.
    ROW_RANGE = "row-range"
    #: §6: stores fill whole chunks, ascending, without gap or repeat.
    CHUNK = "chunk"
    #: §6: a chunk continues over a bounded number of stores.
    STORE_SPAN = "store-span"
    #: §3: a chunk is written at most once in a run.
    SINGLE_ASSIGNMENT = "single-assignment"
    #: §3: a chunk is read only after it was written.
    UNWRITTEN = "unwritten"
    #: §3: every chunk of an export is written at FINISH.
    EXPORT = "export"

    #: VTA specification §11.7, where asked for.
    PORTABLE = "portable"


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One rule broken.

    Attributes
    ----------
    index : int
        Instruction that breaks it, from 0; the number of instructions where one is missing.
    rule : Rule
    message : str
        One line: what, the value, the limit.

    """

    index: int
    rule: Rule
    message: str

    def __str__(self) -> str:
        return f"instruction {self.index}: {self.rule}: {self.message}"


class Report:
    """Collects findings, at most `FINDINGS_PER_RULE` of each rule."""

    def __init__(self) -> None:
        self._findings: list[Finding] = []
        self._counts: Counter[Rule] = Counter()

    def add(self, index: int, rule: Rule, message: str | Callable[[], str]) -> None:
        """Note a finding; ``message`` is called only if it is kept."""
        self._counts[rule] += 1
        if self._counts[rule] <= FINDINGS_PER_RULE:
            text = message if isinstance(message, str) else message()
            self._findings.append(Finding(index, rule, text))

    def extend(self, findings: Iterable[Finding]) -> None:
        """Note finished findings."""
        for finding in findings:
            self.add(finding.index, finding.rule, finding.message)

    def sorted(self) -> list[Finding]:
        """Return what was kept, in stream order."""
        return sorted(self._findings)
