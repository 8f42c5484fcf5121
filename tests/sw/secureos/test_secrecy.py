"""The host never holds a secret: its memory, its log and its DRAM are searched for planted ones."""

import gc
import json
import types

import numpy as np
import pytest

from ginseng.driver.boards.model import ModelBoard
from ginseng.program import loads
from ginseng.program.sealing import session_key
from ginseng.secureos import SessionLostError, keys


def reachable(root, stop):
    """Every object that can be reached from ``root``, not through code, modules or ``stop``."""
    seen, waiting = {}, [root]
    code = (types.ModuleType, type, types.FunctionType, types.CodeType, types.FrameType)
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen or isinstance(thing, code) or any(thing is s for s in stop):
            continue
        seen[id(thing)] = thing
        waiting.extend(gc.get_referents(thing))
        if isinstance(thing, np.ndarray) and thing.base is not None:
            waiting.append(thing.base)
    return list(seen.values())


def contents(things):
    """The bytes of all that holds some."""
    for thing in things:
        if isinstance(thing, bytes | bytearray):
            yield bytes(thing)
        elif isinstance(thing, memoryview | np.ndarray):
            yield np.asarray(thing).tobytes()
        elif isinstance(thing, str):
            yield thing.encode("utf-8", "surrogatepass")
        elif isinstance(thing, int) and thing > 1 << 60:
            yield thing.to_bytes(thing.bit_length() // 8 + 1, "big")


def found(needles, things):
    haystack = list(contents(things))
    return {name for name, needle in needles.items() if any(needle in hay for hay in haystack)}


@pytest.fixture
def planted(monkeypatch):
    """Every secret and blinding that owners make."""
    made = []

    def token_bytes(count):
        made.append(np.random.default_rng(len(made)).bytes(count))
        return made[-1]

    monkeypatch.setattr(keys, "secrets", types.SimpleNamespace(token_bytes=token_bytes))
    return made


def needles_of(planted, session, tiny, samples):
    """What must not be found, by name; hexadecimal forms too."""
    program = tiny.program
    cnf = session.verdicts["data"].require().cnf
    needles = {f"secret {n}": secret for n, secret in enumerate(planted)}
    needles |= {f"static key {n}": secret[:16] for n, secret in enumerate(planted)}
    for slot in (2, 3):
        for n, secret in enumerate(planted):
            needles[f"key {slot} of {n}"] = session_key(secret, cnf=cnf, slot=slot, key_bytes=16)
    weights = program.contents["weights"]
    needles |= {f"weights {at}": weights[at : at + 16] for at in range(0, 512, 16)}
    port = program.inputs[0]
    for n, sample in enumerate(samples):
        needles[f"input {n}"] = port.quantise(sample).tobytes()[:16]
        needles[f"result {n}"] = program.outputs[0].quantise(tiny(sample[None])).tobytes()
        needles[f"real input {n}"] = sample.tobytes()[:16]
    return needles | {f"{name}, hex": value.hex().encode() for name, value in needles.items()}


@pytest.mark.parametrize("ending", ["open", "ended", "fatal"])
def test_no_secret_and_no_plaintext_is_in_the_hosts_hands(
    config, tiny, meet, planted, samples, tmp_path, ending
):
    log = tmp_path / "audit.jsonl"
    with ModelBoard(config) as board:
        session = meet(board, audit=log)
        session.open()
        session.infer(samples)
        needles = needles_of(planted, session, tiny, samples)
        assert len(planted) == 6
        sealed_weights = loads(session.terms.program).contents["weights"].data[:16]
        if ending == "ended":
            session.runtime.end(session.name)
        elif ending == "fatal":
            board.dram[:] ^= 1
            with pytest.raises(SessionLostError):
                session.infer(samples[:1])
        host = reachable(session.runtime, stop=[board])
        reached = {"session": session.name.encode(), "weights": sealed_weights}
        assert found(reached, host) == (set(reached) if ending == "open" else {"session"})
        assert found(needles, host) == set()
        assert found(needles, [board.dram, log.read_bytes()]) == set()
        owners = reachable(session.data_owner, stop=[board])
        assert found(needles, owners) >= {"secret 2", "secret 4"}, "the search finds what is there"


def test_neither_repr_nor_error_shows_a_secret(tiny, meet, board, planted, samples):
    session = meet(board)
    session.open()
    sealed = session.data_owner.seal({"image": samples[:1]})
    texts = [repr(x) for x in (session.model_owner, session.data_owner, session.terms, sealed)]
    texts += [repr(secret) for secret in session.data_owner._secrets.values()]
    texts += [repr(session.verdicts), str(session.verdicts["data"].document)]
    for secret in planted:
        assert not any(secret.hex() in text or repr(secret)[2:-1] in text for text in texts)
    with pytest.raises(TypeError, match="never pickled"):
        next(iter(session.data_owner._secrets.values())).__reduce__()


def test_the_audit_log_tells_the_story_without_naming_sessions_in_full(
    config, meet, samples, tmp_path
):
    log = tmp_path / "audit.jsonl"
    with ModelBoard(config) as board:
        session = meet(board, audit=log)
        session.open()
        session.infer(samples[:2])
        board.dram[:] ^= 1
        with pytest.raises(SessionLostError):
            session.infer(samples[:1])
        session.runtime.close()
        name = session.name
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    events = [line["event"] for line in lines]
    for event in ("request", "open", "quote", "key", "import", "run", "done", "fatal", "reset"):
        assert event in events
    assert events.count("done") == 2
    assert all("time" in line for line in lines)
    assert name not in log.read_text()
    assert name[:8] in log.read_text()
