"""Which attack each binding prevents, and which bindings another one covers.

A `Finding` names the bindings that are taken away, the scenario in which the search then finds an
attack, and the property that breaks. `COVERED` lists what stays safe although it was taken away.
"""

from dataclasses import dataclass

from protocol_model.properties import Property
from protocol_model.protocol import Switch
from protocol_model.scenarios import SCENARIOS
from protocol_model.search import ALL_PROPERTIES, Outcome, explore

__all__ = ["COVERED", "FINDINGS", "Covered", "Finding"]


@dataclass(frozen=True)
class Finding:
    """Bindings without which there is an attack.

    Attributes
    ----------
    off : tuple of Switch
        What is taken away.
    scenario : str
        Key of `SCENARIOS`.
    violated : Property
        The one property that is searched for.
    detail : str
        Part of what the search must report.
    attack : str
        The attack, in one line.

    """

    off: tuple[Switch, ...]
    scenario: str
    violated: Property
    detail: str
    attack: str

    def search(self) -> Outcome:
        """Search for the attack."""
        return explore(SCENARIOS[self.scenario], frozenset(self.off), frozenset({self.violated}))


@dataclass(frozen=True)
class Covered:
    """Bindings whose absence alone breaks none of ``properties`` in ``scenarios``."""

    off: tuple[Switch, ...]
    scenarios: tuple[str, ...]
    by: str
    properties: frozenset[Property] = ALL_PROPERTIES


FINDINGS = (
    Finding(
        (Switch.COMMITMENT,), "one deviation", Property.SECRECY,
        "the host knows apply(agreed program, weights, host's tensor)",
        "slot stealing: the host loads its own secret into the data owner's slots first",
    ),
    Finding(
        (Switch.COMMITMENT,), "one deviation", Property.AGREEMENT,
        "a key in slot",
        "slot stealing, as soon as an honest owner's key stands beside the host's",
    ),
    Finding(
        (Switch.NONCE,), "late owners", Property.FRESHNESS,
        "accepted a session that was over before it asked",
        "a stale quote: the owner releases to a session that ended before it asked",
    ),
    Finding(
        (Switch.NONCE,), "late owners", Property.SECRECY,
        "the host knows secret",
        "the same, when the ephemeral key of that old session leaked after its end",
    ),
    Finding(
        (Switch.SALT,), "client returns", Property.KEY_USE,
        "input 1 of data owner #0 and input 1 of data owner #1",
        "kill and reopen: two inputs of a returning client under one key and nonce",
    ),
    Finding(
        (Switch.INFO, Switch.PCRS_COMPARED), "one deviation", Property.SECRECY,
        "the host knows",
        "owners who leave the comparison of registers to the device release into any setup",
    ),
    Finding(
        (Switch.INFO, Switch.FRESH_CNF), "reopened", Property.SECRECY,
        "the host knows",
        "a device that repeats its ephemeral key: quote of the agreed setup, release opened by the "
        "next session, whose setup is the host's",
    ),
    Finding(
        (Switch.CNF,), "one deviation", Property.SECRECY,
        "the host knows secret",
        "the host gives its own public key with a genuine quote",
    ),
    Finding(
        (Switch.SLOTS_COMPARED,), "one deviation", Property.SECRECY,
        "the host knows apply(agreed program, weights, input 1 of data owner #0)",
        "the host commits its own key for the result slot and reads the result",
    ),
    Finding(
        (Switch.RUN_VERSION,), "one deviation", Property.KEY_USE,
        "input 1 of data owner #0 and input 2 of data owner #0",
        "inputs of two runs under one key and nonce",
    ),
    Finding(
        (Switch.RUN_VERSION,), "one deviation", Property.RESULTS,
        "input 1 of data owner #0) as result 2",
        "the result of run 1 passes for the result of run 2",
    ),
    Finding(
        (Switch.SLOTS_LOADED,), "one deviation", Property.SECRECY,
        "the host knows apply(agreed program, weights, host's tensor)",
        "an empty slot: input and result under the zero key",
    ),
    Finding(
        (Switch.ENTRY_MEASURED, Switch.ONE_ENTRY), "two programs", Property.SECRECY,
        "the host knows weights",
        "the host locks the other entry of the agreed table",
    ),
    Finding(
        (Switch.MAX_RUNS,), "client colludes", Property.USES,
        "allowed 1 runs, secret 1 served in 2",
        "an extra run: a colluding client uses the model more often than was allowed",
    ),
    Finding(
        (Switch.FINAL_PCR4,), "model owner colludes", Property.RESULTS,
        "accepts apply(agreed program, host's tensor, input 1 of data owner #0) as result 1",
        "a colluding model owner imports other weights after the client's only quote",
    ),
    Finding(
        (Switch.SAME_SESSION,), "model owner colludes", Property.RESULTS,
        "accepts apply(agreed program, host's tensor, input 1 of data owner #0) as result 1",
        "the quote with the final PCR4 is of another session than the one that has the keys",
    ),
    Finding(
        (Switch.CNF_REMEMBERED,), "client returns", Property.KEY_USE,
        "input 1 of data owner #0 and input 1 of data owner #1",
        "a client that forgot is shown the same session again and starts its counter anew",
    ),
    Finding(
        (Switch.FRESH_CNF,), "reopened", Property.AGREEMENT,
        "released 1 times and opened 2 times",
        "a device that repeats its ephemeral key: one release opens in two sessions",
    ),
    Finding(
        (Switch.FRESH_KMEM,), "reopened", Property.RESULTS,
        "accepts (weights, input 1 of data owner #0) as result 1",
        "the program of an earlier session is spliced into the agreed one",
    ),
    Finding(
        (Switch.EPOCH,), "one deviation", Property.KEY_USE,
        "SCRATCH",
        "intermediate results of two runs under one nonce of K_mem",
    ),
)  # fmt: skip

_USUAL = ("one session", "reopened", "client returns")

COVERED = (
    Covered(
        (Switch.INFO,), (*_USUAL, "model owner colludes"),
        "the owners' comparison of registers, and a new cnf in each session",
    ),
    Covered(
        (Switch.PCRS_COMPARED,), ("one deviation", "reopened", "client returns"),
        "the info of LOADKEY, which owners compute from their references",
    ),
    Covered(
        (Switch.ENTRY_MEASURED,), _USUAL,
        "the only X row that a table can have, and PCR2, which has the row",
    ),
    Covered(
        (Switch.ONE_ENTRY,), (*_USUAL, "two programs"),
        "the LOCK event, which names the entry",
    ),
    Covered(
        (Switch.NONCE,), _USUAL,
        "cnf: a secret released to a session that is over opens nowhere while its key is secret",
    ),
    Covered(
        (Switch.FRESH_CNF,), ("reopened",),
        "the info of LOADKEY: what opens a second time does so in the same setup",
        frozenset({Property.SECRECY, Property.INPUTS, Property.RESULTS}),
    ),
)  # fmt: skip
