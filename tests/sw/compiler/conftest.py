"""An independent evaluation of quantised graphs, and devices that run them."""

from dataclasses import dataclass

import numpy as np
import pytest

from ginseng.compiler import lower
from ginseng.golden.dram import Dram
from ginseng.golden.plain import PlainPort
from ginseng.golden.vta.core import Core
from ginseng.golden.vta.schedule import RandomScheduler
from ginseng.isa.config import BusConfig, SystemConfig
from ginseng.isa.insn import INSN_BYTES
from ginseng.isa.legality import check_program
from ginseng.isa.table import Domain


def round_shift(value, shift):
    return (value + (1 << shift - 1 if shift else 0)) >> shift


def image(x):
    return x.reshape(*x.shape, 1, 1) if x.ndim == 2 else x


def conv2d(node, x):
    x = image(x)
    top, left, bottom, right = node.padding
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    weight = node.weight.astype(np.int64)
    _, height, width = node.output.extents
    acc = np.zeros((len(x), len(weight), height, width), np.int64)
    for k in range(weight.shape[2]):
        for l in range(weight.shape[3]):  # noqa: E741 -- as in the node's docstring
            rows = k * node.dilation[0] + node.strides[0] * np.arange(height)
            columns = l * node.dilation[1] + node.strides[1] * np.arange(width)
            window = padded[:, :, rows][:, :, :, columns]
            acc += np.einsum("nihw,oi->nohw", window, weight[:, :, k, l])
    return round_shift(acc + node.bias.astype(np.int64)[:, None, None], node.shift)


def dense(node, x):
    acc = x.reshape(len(x), -1) @ node.weight.astype(np.int64).T + node.bias
    return image(round_shift(acc, node.shift))


def add(node, a, b):
    return round_shift((image(a) << node.left[0]) + (image(b) << node.left[1]), node.shift)


def clip(node, x):
    return image(x)


def max_pool(node, x):
    x = image(x)
    _, height, width = node.output.extents
    out = np.full((*x.shape[:2], height, width), -1000)
    for i in range(height):
        for j in range(width):
            y0, x0 = (p * s - q for p, s, q in zip((i, j), node.strides, node.padding, strict=True))
            window = x[:, :, max(0, y0) : y0 + node.kernel[0], max(0, x0) : x0 + node.kernel[1]]
            out[:, :, i, j] = window.max((2, 3))
    return out


def global_average_pool(node, x):
    total = image(x).sum((2, 3), keepdims=True)
    return (total + node.offset) * node.multiplier >> node.shift


_KINDS = {f.__name__: f for f in (conv2d, dense, add, clip, max_pool, global_average_pool)}


@pytest.fixture(scope="session")
def evaluate():
    """Return a function from a graph and integer samples to integer outputs, all by name."""

    def run(graph, samples):
        values = {name: array.astype(np.int64) for name, array in samples.items()}
        for node in graph.nodes:
            raw = _KINDS[node.kind](node, *(values[name] for name in node.inputs))
            out = np.clip(raw, node.output.lo, node.output.hi)
            values[node.output.name] = out.reshape(len(out), *node.output.shape)
        return {name: values[name] for name in graph.outputs}

    return run


@dataclass(frozen=True)
class Run:
    """What a bare device made of a graph, and what it counted."""

    outputs: dict
    gemm_uops: int
    insns: int


@pytest.fixture(scope="session")
def bare_device():
    """Return a function that lowers a graph without protection, runs it and returns a `Run`."""

    def run(graph, samples, core=None, seed=None):
        config = SystemConfig(tec=None, **({} if core is None else {"core": core}))
        image = lower(graph, config, protect=False)
        code = image.dram[image.insn_addr :][: image.insn_count * INSN_BYTES]
        assert check_program(code, config, dram=image.dram) == []
        dram = Dram(0, len(image.dram))
        dram.write(0, image.dram)
        geometry = {"batch": config.core.batch, "block": config.core.block}
        for name, place in image.inputs.items():
            dram.write(place.address, place.port.pack(samples[name], **geometry))
        device = Core(config.core, PlainPort(dram, config.core, config.bus), strict_finish=True)
        device.start(image.insn_addr // INSN_BYTES, image.insn_count)
        device.run(None if seed is None else RandomScheduler(seed))
        outputs = {}
        for name, place in image.outputs.items():
            nbytes = len(place.port.pack(np.zeros((1, *place.port.shape), np.int8), **geometry))
            raw = dram.read(place.address, nbytes).tobytes()
            outputs[name] = place.port.unpack(raw, **geometry)
        return Run(outputs, device.counters.gemm_uops, device.counters.insns)

    return run


@pytest.fixture(scope="session")
def findings():
    """Return a function from a protected program to what the legality checker finds in it."""

    def check(program):
        contents = {
            t.handle: program.contents[t.name]
            for t in program.tensors
            if t.domain is Domain.PROGRAM
        }
        return check_program(
            program.contents[program.entry],
            program.config,
            tensors=program.tensors,
            contents=contents,
        )

    return check


@pytest.fixture(scope="session")
def small_bus():
    """Return a DRAM window that a model of a device allocates quickly."""
    return BusConfig(window_bytes=1 << 24)


@pytest.fixture(scope="session")
def agrees(evaluate, bare_device, findings):
    """Return a check: the bare device computes the graph bit for bit, its protected form is legal."""

    def check(graph, *, seed=0, core=None, samples=None, scheduler=None):
        rng = np.random.default_rng(seed)
        batch = 1 if core is None else core.batch
        if samples is None:
            samples = {
                v.name: rng.integers(v.lo, v.hi + 1, (batch, *v.shape)).astype(np.int8)
                for v in graph.inputs
            }
        expected = evaluate(graph, samples)
        run = bare_device(graph, samples, core, scheduler)
        for name, array in expected.items():
            np.testing.assert_array_equal(run.outputs[name], array, err_msg=name)
        config = SystemConfig(**({} if core is None else {"core": core}))
        program = lower(graph, config)
        assert findings(program) == []
        return program, run

    return check
