"""Graphs of one or a few operators and what TVM computes of them; networks as ONNX."""

import types

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper


def build(inputs, make, outputs=1):
    """Return a module whose `main` takes named tensors: name -> (shape, dtype)."""
    from tvm import relax

    variables = [
        relax.Var(name, relax.TensorType(shape, dtype)) for name, (shape, dtype) in inputs.items()
    ]
    builder = relax.BlockBuilder()
    with builder.function("main", variables):
        with builder.dataflow():
            made = builder.emit(make(builder, *variables))
            if outputs > 1:
                made = builder.emit(relax.TupleGetItem(made, outputs - 1))
            result = builder.emit_output(made)
        builder.emit_func_output(result)
    return builder.get()


class Machine:
    """Runs a module's `main` on NumPy arrays."""

    def __init__(self, module):
        import tvm
        from tvm import relax

        self._tvm = tvm
        self._machine = relax.VirtualMachine(tvm.compile(module, target="llvm"), tvm.cpu())

    def __call__(self, *arrays):
        given = [self._tvm.runtime.tensor(np.array(array, order="C")) for array in arrays]
        return self._machine["main"](*given).numpy()


@pytest.fixture(scope="session")
def graphs():
    pytest.importorskip("tvm", reason="comes with the extra tvm")
    return types.SimpleNamespace(build=build, Machine=Machine)


class Net:
    """Adds nodes one behind the other; weights are zeros, no check looks at them."""

    def __init__(self, shape, batch="N"):
        self.nodes, self.constants, self.at, self.shape = [], [], "x", shape
        self.input = helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, *shape])

    def constant(self, values, dtype=np.float32):
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def node(self, kind, *inputs, **attributes):
        name = f"n{len(self.nodes)}"
        self.nodes.append(
            helper.make_node(kind, inputs, [name], name=f"{kind}_{name}", **attributes)
        )
        self.at = name
        return name

    def conv(self, channels, stride=1, kernel=3):
        weights = self.constant(np.zeros((channels, self.shape[0], kernel, kernel)))
        pads = [kernel // 2] * 4
        self.node("Conv", self.at, weights, strides=[stride] * 2, pads=pads)
        self.shape = (channels, *(-(-n // stride) for n in self.shape[1:]))

    def norm(self, kind):
        ones, zeros = (self.constant(np.full(self.shape[0], n)) for n in (1, 0))
        if kind == "batch":
            self.node("BatchNormalization", self.at, ones, zeros, zeros, ones)
        elif kind == "group":
            self.node("GroupNormalization", self.at, ones, zeros, num_groups=4)

    def pool(self):
        self.node("MaxPool", self.at, kernel_shape=[2, 2], strides=[2, 2])
        self.shape = (self.shape[0], *(n // 2 for n in self.shape[1:]))

    def dense(self, units):
        count = int(np.prod(self.shape))
        weights = self.constant(np.zeros((count, units)))
        self.node("Gemm", self.at, weights, self.constant(np.zeros(units)))
        self.shape = (units,)

    def model(self):
        output = helper.make_tensor_value_info(self.at, TensorProto.FLOAT, [None, None])
        graph = helper.make_graph(self.nodes, "net", [self.input], [output], self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def vgg9():
    net = Net((3, 32, 32))
    for channels in (64, 64, 0, 128, 128, 0, 256, 256, 0):
        if channels:
            net.conv(channels)
            net.node("Relu", net.at)
        else:
            net.pool()
    net.node("Flatten", net.at)
    for units in (512, 512, 10):
        net.dense(units)
        if units != 10:
            net.node("Relu", net.at)
    return net.model()


def resnet32(norm):
    net = Net((3, 32, 32))
    net.conv(16)
    net.norm(norm)
    net.node("Relu", net.at)
    for channels in (16, 32, 64):
        for block in range(5):
            start, shape = net.at, net.shape
            stride = 2 if channels != shape[0] and not block else 1
            net.conv(channels, stride)
            net.norm(norm)
            net.node("Relu", net.at)
            net.conv(channels)
            net.norm(norm)
            body = net.at
            if stride == 2:
                # Option A: every second place, and channels of zeros.
                ends = [net.constant(v, np.int64) for v in ([0, 0], [99, 99], [2, 3], [2, 2])]
                start = net.node("Slice", start, *ends)
                extra = (channels - shape[0]) // 2
                pads = net.constant([0, extra, 0, 0, 0, extra, 0, 0], np.int64)
                start = net.node("Pad", start, pads)
            net.node("Add", body, start)
            net.node("Relu", net.at)
    net.node("GlobalAveragePool", net.at)
    net.node("Flatten", net.at)
    net.shape = (64,)
    net.dense(10)
    return net.model()


def small(*ends):
    """Return a net of one layer that goes on as `ends` say: kind, constants, attributes."""
    net = Net((4,))
    net.dense(6)
    for kind, constants, attributes in ends:
        net.node(kind, net.at, *(net.constant(*c) for c in constants), **attributes)
    return net.model()


def centred():
    net = Net((4,))
    net.dense(6)
    value = net.at
    mean = net.node("ReduceMean", value, net.constant([0], np.int64), keepdims=1)
    net.node("Sub", value, mean)
    return net.model()


@pytest.fixture(scope="session")
def networks():
    """Networks whose weights are zeros: no check looks at them."""
    return types.SimpleNamespace(
        Net=Net, vgg9=vgg9, resnet32=resnet32, small=small, centred=centred
    )


@pytest.fixture
def linear(networks, tmp_path):
    """A file of a line, of four inputs and three classes."""
    net = networks.Net((4,))
    net.dense(3)
    path = tmp_path / "linear.onnx"
    onnx.save(net.model(), path)
    return path
