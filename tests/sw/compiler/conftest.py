"""An independent evaluation of quantised graphs, and devices that run them."""

from dataclasses import dataclass

import numpy as np
import onnx
import pytest

from ginseng.compiler import compile_model, lower, reference
from ginseng.golden.dram import Dram
from ginseng.golden.plain import PlainPort
from ginseng.golden.vta.core import Core
from ginseng.golden.vta.schedule import RandomScheduler
from ginseng.isa.config import BusConfig, SystemConfig
from ginseng.isa.insn import INSN_BYTES
from ginseng.isa.legality import check_program
from ginseng.isa.table import Domain


@pytest.fixture(scope="session")
def evaluate():
    """Return a function from a graph and integer samples to integer outputs, all by name."""
    return reference.evaluate


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
    """Return a check: a bare device is exact, and the protected form is legal."""

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


class OnnxBuilder:
    """Collects nodes and initialisers of a model whose first input is ``x``."""

    def __init__(self, seed=0):
        self.rng = np.random.default_rng(seed)
        self.nodes = []
        self.constants = []

    def constant(self, array, name):
        self.constants.append(onnx.numpy_helper.from_array(array.astype(np.float32), name))
        return name

    def integers(self, array, name):
        self.constants.append(onnx.numpy_helper.from_array(array, name))
        return name

    def dequantised(self, array, name, scale, *, zero=None, axis=None):
        """Integers and their DequantizeLinear, as quantisers write constants."""
        zero = (
            np.zeros(np.shape(scale), array.dtype)
            if zero is None
            else np.asarray(zero, array.dtype)
        )
        scale = self.constant(np.asarray(scale), f"{name}.scale")
        inputs = [self.integers(array, f"{name}.q"), scale, self.integers(zero, f"{name}.zero")]
        return self.add(
            "DequantizeLinear", inputs, name, **({} if axis is None else {"axis": axis})
        )

    def quantised(self, x, name, scale, zero=0, dtype=np.int8):
        """A QuantizeLinear of ``x`` and its DequantizeLinear."""
        grid = [
            self.constant(np.asarray(scale), f"{name}.scale"),
            self.integers(np.asarray(zero, dtype), f"{name}.zero"),
        ]
        integers = self.add("QuantizeLinear", [x, *grid], f"{name}.q")
        return self.add("DequantizeLinear", [integers, *grid], name)

    def weights(self, name, *shape, scale=None):
        fan = np.prod(shape[1:])
        return self.constant(self.rng.normal(0, scale or np.sqrt(2 / fan), shape), name)

    def add(self, kind, inputs, name, **attributes):
        node = onnx.helper.make_node(kind, inputs, [name], f"{name}.node", **attributes)
        self.nodes.append(node)
        return name

    def conv(self, x, name, out, inp, kernel=3, stride=1, pad=None, bias=True):
        pads = [kernel // 2 if pad is None else pad] * 4
        inputs = [x, self.weights(f"{name}.w", out, inp, kernel, kernel)]
        if bias:
            inputs.append(self.weights(f"{name}.b", out, scale=0.1))
        shape = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": pads}
        return self.add("Conv", inputs, name, **shape)

    def norm(self, x, name, channels):
        rng = self.rng
        parts = {
            "scale": rng.uniform(0.5, 1.5, channels),
            "shift": rng.normal(0, 0.2, channels),
            "mean": rng.normal(0, 0.2, channels),
            "variance": rng.uniform(0.5, 1.5, channels),
        }
        inputs = [self.constant(v, f"{name}.{k}") for k, v in parts.items()]
        return self.add("BatchNormalization", [x, *inputs], name)

    def dense(self, x, name, out, inp):
        inputs = [x, self.weights(f"{name}.w", out, inp), self.weights(f"{name}.b", out, scale=0.1)]
        return self.add("Gemm", inputs, name, transB=1)

    def model(self, shape, outputs, *, name="net", batch="n", dtype=onnx.TensorProto.FLOAT):
        """Return the model; ``outputs`` maps names to sample shapes."""
        info = onnx.helper.make_tensor_value_info
        graph = onnx.helper.make_graph(
            self.nodes,
            name,
            [info("x", dtype, [batch, *shape])],
            [info(o, onnx.TensorProto.FLOAT, [batch, *s]) for o, s in outputs.items()],
            self.constants,
        )
        opset = [onnx.helper.make_opsetid("", 17)]
        return onnx.helper.make_model(graph, opset_imports=opset, ir_version=8)


@pytest.fixture
def build():
    """Return a fresh `OnnxBuilder`."""
    return OnnxBuilder()


def residual_network(build):
    """Two residual blocks with batch normalisation, one of them striding, pooled to a dense."""

    def block(x, name, out, inp, stride):
        y = build.conv(x, f"{name}.c1", out, inp, stride=stride, bias=False)
        y = build.add("Relu", [build.norm(y, f"{name}.n1", out)], f"{name}.r1")
        y = build.norm(build.conv(y, f"{name}.c2", out, out, bias=False), f"{name}.n2", out)
        if stride != 1 or out != inp:
            x = build.conv(x, f"{name}.sc", out, inp, kernel=1, stride=stride, bias=False)
            x = build.norm(x, f"{name}.n3", out)
        return build.add("Relu", [build.add("Add", [y, x], f"{name}.sum")], f"{name}.out")

    x = build.norm(build.conv("x", "stem", 16, 3, kernel=5, stride=2, bias=False), "stem.n", 16)
    x = build.add("Relu", [x], "stem.r")
    x = build.add("MaxPool", [x], "pool", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    x = block(x, "b1", 16, 16, 1)
    x = block(x, "b2", 40, 16, 2)
    x = build.add("Flatten", [build.add("GlobalAveragePool", [x], "mean")], "flat")
    build.dense(x, "logits", 10, 40)
    return build.model((3, 32, 32), {"logits": (10,)}, name="residual")


def lenet(build):
    """Convolutions without padding, pools without activation, and a flattened image."""
    x = build.conv("x", "c1", 6, 1, kernel=5, pad=2)
    x = build.add("MaxPool", [x], "p1", kernel_shape=[2, 2], strides=[2, 2])
    x = build.add("Relu", [build.conv(x, "c2", 16, 6, kernel=5, pad=0)], "r2")
    x = build.add("MaxPool", [x], "p2", kernel_shape=[2, 2], strides=[2, 2])
    x = build.add("Flatten", [x], "flat")
    x = build.add("Relu", [build.dense(x, "d1", 120, 400)], "r3")
    x = build.add("Relu", [build.dense(x, "d2", 84, 120)], "r4")
    build.dense(x, "logits", 10, 84)
    return build.model((1, 28, 28), {"logits": (10,)}, name="lenet")


_NETWORKS = {"residual": (residual_network, (3, 32, 32)), "lenet": (lenet, (1, 28, 28))}


@dataclass(frozen=True)
class Network:
    """A model, data for it, and what the compiler made of them."""

    model: object
    samples: np.ndarray
    compiled: object


@pytest.fixture(scope="session", params=sorted(_NETWORKS))
def network(request, small_bus):
    """Return a compiled network and 16 samples."""
    make, shape = _NETWORKS[request.param]
    model = make(OnnxBuilder(seed=11))
    samples = np.random.default_rng(3).normal(0, 1, (16, *shape)).astype(np.float32)
    config = SystemConfig(bus=small_bus)
    return Network(model, samples, compile_model(model, {"x": samples}, config=config))
