"""Train the demo network on scikit-learn's digits and export it: the source of `graphopt/demo`.

    python examples/digits/train.py            # about a minute on one core

Writes `digits_cnn.onnx` and `digits.npz` into `graphopt/demo` (or `--out FOLDER`). Seeds are fixed
and one thread is used, so the same versions on the same kind of processor give the same files.
Needs torch, scikit-learn, onnx and onnxscript; README.md beside this file has the exact versions.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from network import CLASSES, DigitsNet
from sklearn.datasets import load_digits
from torch import Tensor, nn

SEED = 0
EPOCHS = 60
BATCH = 32
OPSET = 20
HERE = Path(__file__).resolve().parent
SHIPPED = HERE.parents[1] / "graphopt" / "demo"


def split(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers of the two halves: of every class the first half in file order, and the rest.

    Neighbouring rows tend to come from the same writer, and 13 people wrote all of them. Cutting
    the file instead of shuffling it keeps most of a writer's digits on one side.
    """
    first: list[int] = []
    second: list[int] = []
    for label in range(CLASSES):
        rows = np.flatnonzero(labels == label)
        middle = (len(rows) + 1) // 2
        first.extend(rows[:middle].tolist())
        second.extend(rows[middle:].tolist())
    return np.array(sorted(first)), np.array(sorted(second))


def pixels(stored: np.ndarray) -> Tensor:
    """Stored images uint8 [n, 8, 8] in 0..16 to what the network takes: float32 [n, 1, 8, 8] in 0..1."""
    return torch.from_numpy(stored.astype(np.float32) / 16.0).unsqueeze(1)


def shifted(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each image moved by -1, 0 or 1 pixel in both directions, with empty pixels moved in."""
    padded = nn.functional.pad(images, (1, 1, 1, 1))
    moves = torch.randint(0, 3, (len(images), 2), generator=generator).tolist()
    return torch.stack([image[:, y : y + 8, x : x + 8] for image, (y, x) in zip(padded, moves, strict=True)])


def train(images: Tensor, labels: Tensor) -> DigitsNet:
    """A network trained for a fixed number of epochs; the test half is never looked at."""
    torch.manual_seed(SEED)
    generator = torch.Generator().manual_seed(SEED)
    net = DigitsNet(mean=round(float(images.mean()), 4), std=round(float(images.std()), 4))
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=0.02)
    steps = EPOCHS * ((len(images) + BATCH - 1) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=steps)
    loss_of = nn.CrossEntropyLoss(label_smoothing=0.05)
    net.train()
    for epoch in range(EPOCHS):
        total = 0.0
        for rows in torch.randperm(len(images), generator=generator).split(BATCH):
            logits, auxiliary = net(shifted(images[rows], generator))
            loss = loss_of(logits, labels[rows]) + 0.3 * loss_of(auxiliary, labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += float(loss.detach()) * len(rows)
        if epoch % 10 == 9:
            print(f"epoch {epoch + 1:3d}  loss {total / len(images):.4f}")
    return net.eval()


def export(net: DigitsNet, sample: Tensor, path: Path) -> None:
    """Write the network with PyTorch's own exporter, its clean-up (`optimize`) switched off.

    Two things are done to the exported program before it is saved. The auxiliary output is left out
    of the signature, which turns the head behind it into an unused branch. And the stack traces in
    the metadata are dropped: they hold the paths of the machine that ran the export.
    """
    program = torch.onnx.export(
        net,
        (sample,),
        dynamo=True,
        optimize=False,
        opset_version=OPSET,
        input_names=["image"],
        output_names=["logits", "auxiliary_logits"],
        dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=65536)},),
        verbose=False,
    )
    if program is None:
        raise SystemExit("torch.onnx.export returned no program; the dynamo exporter is needed.")
    graph = program.model.graph
    graph.outputs.pop()
    for node in graph:
        node.metadata_props.pop("pkg.torch.onnx.stack_trace", None)
    program.save(path, external_data=False)


def accuracy(net: DigitsNet, images: Tensor, labels: Tensor) -> float:
    """Share of images whose largest logit is the label's."""
    with torch.no_grad():
        return float((net(images)[0].argmax(1) == labels).float().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=SHIPPED, help="folder to write into (default: %(default)s)")
    out: Path = parser.parse_args().out
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)

    digits = load_digits()
    images = digits.images.astype(np.uint8)
    labels = digits.target.astype(np.uint8)
    if not np.array_equal(images, digits.images):
        raise SystemExit("The pixels of load_digits are no longer whole numbers; the uint8 storage would lose them.")
    first, second = split(labels)

    net = train(pixels(images[first]), torch.from_numpy(labels[first]).long())
    weights = sum(parameter.numel() for parameter in net.parameters())
    print(f"{weights} parameters")
    for name, rows in (("training half", first), ("test half", second)):
        share = accuracy(net, pixels(images[rows]), torch.from_numpy(labels[rows]).long())
        print(f"{name}: {len(rows)} images, accuracy {share:.4f}")

    out.mkdir(parents=True, exist_ok=True)
    export(net, pixels(images[first][:2]), out / "digits_cnn.onnx")
    np.savez_compressed(out / "digits.npz", calibration_x=images[first], test_x=images[second], test_y=labels[second])
    for name in ("digits_cnn.onnx", "digits.npz"):
        print(f"{name}: {(out / name).stat().st_size} bytes")


if __name__ == "__main__":
    main()
