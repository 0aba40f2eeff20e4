"""Train a small convolutional net on 8x8 digits and write it as ONNX, with its data.

Run ``python examples/digits/train.py``; it rewrites the three files of ``edgec/demo``. The
same machine writes the same bytes each time: seeds are fixed and BLAS runs on one thread,
because the order of its sums depends on their number.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import onnx
from layers import (
    Array,
    BatchNorm,
    Chain,
    Conv,
    Dense,
    DepthwiseConv,
    Dropout,
    GlobalAveragePool,
    Layer,
    OnnxWriter,
    Relu,
    Residual,
)
from numpy.typing import NDArray
from onnx import TensorProto, helper
from sklearn.datasets import load_digits
from threadpoolctl import threadpool_limits

__all__ = ["main"]

Labels: TypeAlias = NDArray[np.int64]

DEMO = Path(__file__).resolve().parents[2] / "edgec" / "demo"
SPLIT_SEED = 1
TRAINING_SEED = 2
CALIBRATION_SAMPLES = 128

EPOCHS = 60
BATCH = 32
PEAK_RATE = 0.05
MOMENTUM = 0.9
WEIGHT_DECAY = 5e-4
DROPOUT = 0.2


def build_net(rng: np.random.Generator) -> Layer:
    """Return the untrained net: image [N, 1, 8, 8] to logits [N, 10]."""
    return Chain(
        Conv("stem/conv", 1, 16, 3, rng),
        BatchNorm("stem/norm", 16),
        Relu("stem/relu"),
        DepthwiseConv("block1/depthwise", 16, rng),
        BatchNorm("block1/depthwise_norm", 16),
        Relu("block1/relu6", limit=6),
        Conv("block1/pointwise", 16, 32, 1, rng),
        BatchNorm("block1/pointwise_norm", 32),
        Residual(
            "block2/add",
            Chain(
                Conv("block2/conv_a", 32, 32, 3, rng),
                BatchNorm("block2/norm_a", 32),
                Relu("block2/relu_a"),
                Conv("block2/conv_b", 32, 32, 3, rng),
                BatchNorm("block2/norm_b", 32),
            ),
        ),
        Relu("block2/relu"),
        GlobalAveragePool("head/pool", "head/flatten"),
        Dropout("head/dropout", DROPOUT, rng),
        Dense("head/matmul", "head/bias", 32, 10, rng),
    )


@dataclass(frozen=True, slots=True)
class Split:
    """Images [N, 1, 8, 8], 0 to 1, with labels [N], to train on and to judge by."""

    train_image: Array
    train_labels: Labels
    test_image: Array
    test_labels: Labels


def split_digits() -> Split:
    """Cut the digits in two, half of each class on either side."""
    digits = load_digits()
    image = (digits.images[:, None] / 16).astype(np.float32)
    labels = digits.target.astype(np.int64)
    rng = np.random.default_rng(SPLIT_SEED)
    train = np.zeros(len(labels), np.bool_)
    for digit in range(10):
        members = rng.permutation(np.flatnonzero(labels == digit))
        train[members[: len(members) // 2]] = True
    return Split(image[train], labels[train], image[~train], labels[~train])


def shift(image: Array, rng: np.random.Generator) -> Array:
    """Move each image by up to a pixel in each direction, zeros coming in at the edge."""
    n, _, h, w = image.shape
    rows = rng.integers(0, 3, (n, 1, 1)) + np.arange(h)[:, None]
    columns = rng.integers(0, 3, (n, 1, 1)) + np.arange(w)
    padded = np.pad(image, ((0, 0), (0, 0), (1, 1), (1, 1)))
    moved: Array = padded[np.arange(n)[:, None, None], 0, rows, columns]
    return moved[:, None]


def softmax(logits: Array) -> Array:
    """``exp(logits) / sum of exp(logits)`` of each row."""
    exponential = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: Array = exponential / exponential.sum(axis=1, keepdims=True)
    return probabilities


def train(net: Layer, split: Split, epochs: int, rng: np.random.Generator) -> None:
    """Minimise the cross entropy, the rate falling along a cosine from its peak to zero."""
    count = len(split.train_labels)
    batches = count // BATCH
    for epoch in range(epochs):
        order = rng.permutation(count)
        loss = 0.0
        for batch in range(batches):
            chosen = order[batch * BATCH : (batch + 1) * BATCH]
            image = shift(split.train_image[chosen], rng)
            probabilities = softmax(net.forward(image, training=True))
            at_label = np.arange(BATCH), split.train_labels[chosen]
            loss -= float(np.log(probabilities[at_label]).mean()) / batches
            probabilities[at_label] -= 1  # now the gradient by the logits, times BATCH
            net.backward(probabilities / np.float32(BATCH))
            progress = (epoch + batch / batches) / epochs
            rate = PEAK_RATE * (1 + math.cos(math.pi * progress)) / 2
            for parameter in net.parameters:
                parameter.step(rate, MOMENTUM, WEIGHT_DECAY)
        if epoch % 10 == 9:
            print(f"epoch {epoch + 1:3}  loss {loss:.4f}")


def to_onnx(net: Layer) -> onnx.ModelProto:
    """Return the net with a softmax after it, batch size left open."""
    writer = OnnxWriter()
    logits = net.export("image", writer)
    writer.node("Softmax", "head/softmax", logits, output="probabilities", axis=1)
    graph = helper.make_graph(
        writer.nodes,
        "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 1, 8, 8])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 10])],
        writer.initializers,
    )
    # IR version 8 is the one that came with opset 17; the default would ask for a newer reader.
    model = helper.make_model(
        graph,
        producer_name="edgec",
        ir_version=8,
        opset_imports=[helper.make_opsetid("", 17)],
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def write_data(split: Split, folder: Path) -> None:
    """Write the calibration and the test samples."""
    # The split keeps the order of the data set, in which digits come in runs.
    rng = np.random.default_rng(SPLIT_SEED)
    chosen = rng.permutation(len(split.train_image))[:CALIBRATION_SAMPLES]
    np.savez_compressed(folder / "calibration.npz", image=split.train_image[chosen])
    np.savez_compressed(folder / "test.npz", image=split.test_image, labels=split.test_labels)


def main() -> None:
    """Write the data, train the net, write it, and say how good it is."""
    parser = argparse.ArgumentParser(description="Train and write the digits example.")
    parser.add_argument("--output", type=Path, default=DEMO, help="folder to write to")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="passes over the data")
    options = parser.parse_args()

    split = split_digits()
    write_data(split, options.output)
    rng = np.random.default_rng(TRAINING_SEED)
    net = build_net(rng)
    started = time.process_time()
    with threadpool_limits(limits=1):
        train(net, split, options.epochs, rng)
    seconds = time.process_time() - started
    right = net.forward(split.test_image, training=False).argmax(axis=1) == split.test_labels
    (options.output / "digits.onnx").write_bytes(to_onnx(net).SerializeToString())
    print(f"{right.sum()} of {right.size} test images right ({right.mean():.2%})")
    print(f"trained on {len(split.train_labels)} images in {seconds:.0f} s of CPU time")


if __name__ == "__main__":
    main()
