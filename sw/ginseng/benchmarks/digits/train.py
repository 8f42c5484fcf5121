"""Trains the demo's network and writes it as ONNX: ``python -m ginseng.benchmarks.digits.train``.

Plain NumPy, under a minute, seeded: the demo ships its result, and this script is how
anyone makes it again. The network: three 3x3 convolutions, one of them inside a residual block,
max pooling, global average pooling, and a dense layer.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from ginseng.benchmarks.digits import Digits, load_digits, split

__all__ = ["export", "forward", "initialise", "train"]

Array = NDArray[np.float32]
Parameters = dict[str, Array]
_SEED: Final = 7
_CHANNELS: Final = 32


def _columns(x: Array) -> Array:
    """Patches of a padded 3x3 convolution, ``(n, h, w, 9 * channels)``, from NHWC."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = sliding_window_view(padded, (3, 3), axis=(1, 2))
    return np.ascontiguousarray(windows).reshape(*x.shape[:3], -1)


def _conv(x: Array, p: Parameters, name: str) -> tuple[Array, Array]:
    columns = _columns(x)
    return columns @ p[f"{name}.w"] + p[f"{name}.b"], columns


def _conv_gradient(grad: Array, columns: Array, p: Parameters, name: str, g: Parameters) -> Array:
    g[f"{name}.w"] = np.tensordot(columns, grad, ((0, 1, 2), (0, 1, 2)))
    g[f"{name}.b"] = grad.sum((0, 1, 2))
    n, h, w, _ = grad.shape
    patches = (grad @ p[f"{name}.w"].T).reshape(n, h, w, -1, 3, 3)
    out = np.zeros((n, h + 2, w + 2, patches.shape[3]), np.float32)
    for i in range(3):
        for j in range(3):
            out[:, i : i + h, j : j + w] += patches[..., i, j]
    return out[:, 1:-1, 1:-1]


def initialise() -> Parameters:
    """Return He-initialised parameters; convolutions are ``(in * 9, out)``."""
    rng = np.random.default_rng(_SEED)
    shapes = {
        "stem.w": (9, _CHANNELS),
        "body.w": (9 * _CHANNELS, _CHANNELS),
        "residual.w": (9 * _CHANNELS, _CHANNELS),
        "dense.w": (_CHANNELS, 10),
    }
    p = {k: rng.normal(0, np.sqrt(2 / s[0]), s).astype(np.float32) for k, s in shapes.items()}
    return p | {k.replace(".w", ".b"): np.zeros(s[1], np.float32) for k, s in shapes.items()}


def forward(p: Parameters, images: Array) -> tuple[Array, dict[str, Array]]:
    """Return logits ``(n, 10)`` and what the gradient needs, for ``(n, 1, 8, 8)`` images."""
    keep: dict[str, Array] = {}
    x = images.transpose(0, 2, 3, 1)
    for name in ("stem", "body"):
        x, keep[f"{name}.columns"] = _conv(x, p, name)
        x = np.maximum(x, 0)
        keep[f"{name}.out"] = x
    n, h, w, c = x.shape
    windows = x.reshape(n, h // 2, 2, w // 2, 2, c)
    pooled = windows.max((2, 4))
    keep["pool.mask"] = (windows == pooled[:, :, None, :, None]).astype(np.float32)
    y, keep["residual.columns"] = _conv(pooled, p, "residual")
    out = np.maximum(y + pooled, 0)
    keep["residual.out"] = out
    features = out.mean((1, 2))
    keep["features"] = features
    return features @ p["dense.w"] + p["dense.b"], keep


def backward(p: Parameters, keep: dict[str, Array], grad: Array) -> Parameters:
    """Return the gradient of every parameter, from that of the logits."""
    g: Parameters = {"dense.w": keep["features"].T @ grad, "dense.b": grad.sum(0)}
    out = keep["residual.out"]
    area = out.shape[1] * out.shape[2]
    d = np.where(out > 0, (grad @ p["dense.w"].T)[:, None, None] / area, 0).astype(np.float32)
    d = d + _conv_gradient(d, keep["residual.columns"], p, "residual", g)
    mask = keep["pool.mask"]
    mask = mask / mask.sum((2, 4), keepdims=True)
    d = (mask * d[:, :, None, :, None]).reshape(keep["body.out"].shape)
    for name in ("body", "stem"):
        d = np.where(keep[f"{name}.out"] > 0, d, 0).astype(np.float32)
        d = _conv_gradient(d, keep[f"{name}.columns"], p, name, g)
    return g


def train(data: Digits, *, epochs: int = 40) -> Parameters:
    """Return parameters trained with Adam on the cross-entropy; prints the loss."""
    rng = np.random.default_rng(_SEED)
    p = initialise()
    first = {k: np.zeros_like(v) for k, v in p.items()}
    second = {k: np.zeros_like(v) for k, v in p.items()}
    step = 0
    for epoch in range(epochs):
        rate = 3e-3 * 0.5 * (1 + np.cos(np.pi * epoch / epochs))
        losses = []
        for batch in np.array_split(rng.permutation(len(data.labels)), len(data.labels) // 48):
            logits, keep = forward(p, data.images[batch])
            odds = np.exp(logits - logits.max(1, keepdims=True))
            odds /= odds.sum(1, keepdims=True)
            rows = np.arange(len(batch))
            losses.append(-np.log(odds[rows, data.labels[batch]] + 1e-9).mean())
            odds[rows, data.labels[batch]] -= 1
            step += 1
            for name, g in backward(p, keep, odds / len(batch)).items():
                first[name] = 0.9 * first[name] + 0.1 * g
                second[name] = 0.999 * second[name] + 0.001 * g * g
                mean, var = first[name] / (1 - 0.9**step), second[name] / (1 - 0.999**step)
                p[name] = (p[name] - rate * mean / (np.sqrt(var) + 1e-8)).astype(np.float32)
        print(f"epoch {epoch + 1:2d}  loss {np.mean(losses):.4f}")
    return p


def export(p: Parameters) -> onnx.ModelProto:
    """Return the network as ONNX, NCHW, batch 1, input ``image`` and output ``logits``."""
    tensors: Mapping[str, Array] = {
        f"{name}.{kind}": p[f"{name}.{kind}"]
        if kind == "b"
        # (channels * 3 * 3, out) -> OIHW
        else p[f"{name}.w"].T.reshape(_CHANNELS, -1, 3, 3)
        for name in ("stem", "body", "residual")
        for kind in "wb"
    } | {"dense.w": p["dense.w"].T.copy(), "dense.b": p["dense.b"]}

    def conv(name: str, x: str, y: str) -> Any:
        return helper.make_node(
            "Conv", [x, f"{name}.w", f"{name}.b"], [y], name, kernel_shape=[3, 3], pads=[1] * 4
        )

    nodes = [
        conv("stem", "image", "stem"),
        helper.make_node("Relu", ["stem"], ["stem.relu"], "stem.relu"),
        conv("body", "stem.relu", "body"),
        helper.make_node("Relu", ["body"], ["body.relu"], "body.relu"),
        helper.make_node(
            "MaxPool", ["body.relu"], ["pool"], "pool", kernel_shape=[2, 2], strides=[2, 2]
        ),
        conv("residual", "pool", "residual"),
        helper.make_node("Add", ["residual", "pool"], ["sum"], "sum"),
        helper.make_node("Relu", ["sum"], ["sum.relu"], "sum.relu"),
        helper.make_node("GlobalAveragePool", ["sum.relu"], ["mean"], "mean"),
        helper.make_node("Flatten", ["mean"], ["features"], "features"),
        helper.make_node("Gemm", ["features", "dense.w", "dense.b"], ["logits"], "dense", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 10])],
        [numpy_helper.from_array(np.ascontiguousarray(v), k) for k, v in tensors.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def main() -> None:
    """Train, report the held-back accuracy, write ``digits.onnx`` beside this file."""
    training, held = split(load_digits())
    p = train(training)
    accuracy = np.mean(forward(p, held.images)[0].argmax(1) == held.labels)
    print(f"held-back accuracy {accuracy:.4f} on {len(held.labels)} digits")
    onnx.save(export(p), Path(__file__).with_name("digits.onnx"))


if __name__ == "__main__":
    main()
