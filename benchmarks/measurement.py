#!/usr/bin/env python
"""What one exact measurement costs beside a plain epoch.

MLP 784-1024-1024-10 on MNIST, float32: one exact measurement of sg-b, sg-2b, svrg and gc with all sums per coordinate,
over one plain epoch of forward and backward passes by PyTorch (minibatches of 128, no optimiser step). Both in this
process, one after the other, several rounds; the ratio is the median of the rounds'. Refreshes (snapshot, clusters) are not in it.

    benchmarks/measurement.py --data-dir ../shared/data/mnist
"""

from __future__ import annotations

import argparse
import gzip
import resource
import statistics
import sys
import time
from pathlib import Path

import numpy
import torch
from torch import Tensor, nn

import gradist

REPOSITORY = Path(__file__).resolve().parent.parent
ESTIMATORS = ["sg-b", "sg-2b", "svrg", "gc"]
TARGET = 2.6


def read_idx(path: Path, header: int) -> numpy.ndarray:
    with gzip.open(path) as file:
        return numpy.frombuffer(file.read(), numpy.uint8, offset=header)


def mnist(folder: Path, examples: int) -> tuple[Tensor, Tensor]:
    images = read_idx(folder / "train-images-idx3-ubyte.gz", 16).reshape(-1, 784)[:examples] / numpy.float32(255)
    labels = read_idx(folder / "train-labels-idx1-ubyte.gz", 8)[:examples].astype(numpy.int64)
    return torch.from_numpy((images - images.mean()) / images.std()).float(), torch.from_numpy(labels)


def batches(inputs: Tensor, targets: Tensor, size: int):
    return zip(inputs.split(size), targets.split(size), strict=True)


def train(model: nn.Module, inputs: Tensor, targets: Tensor, steps: int) -> None:
    """SGD as in the preset faghri-mnist-mlp, so that measurements see gradients of a real trajectory."""
    optimiser = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.5, weight_decay=5e-4)
    for _ in range(steps):
        picks = torch.randint(len(inputs), (128,))
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(inputs[picks]), targets[picks]).backward()
        optimiser.step()
    optimiser.zero_grad()


def plain_epoch(model: nn.Module, inputs: Tensor, targets: Tensor) -> float:
    start = time.perf_counter()
    for x, y in batches(inputs, targets, 128):
        model.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
    return time.perf_counter() - start


def peak_mib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, default=REPOSITORY.parent / "shared" / "data" / "mnist")
    parser.add_argument("--examples", type=int, default=60_000)
    parser.add_argument("--steps", type=int, default=300, help="SGD steps between the snapshot and the measurement")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    if not (options.data_dir / "train-images-idx3-ubyte.gz").exists():
        print(f"skipped: no MNIST in {options.data_dir}; name its folder by --data-dir")
        return 0

    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    inputs, targets = mnist(options.data_dir, options.examples)
    model = nn.Sequential(nn.Linear(784, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 10))
    train(model, inputs, targets, options.steps)
    snapshot = {name: value.clone() for name, value in model.state_dict().items()}
    clusters = gradist.cluster(
        model, nn.CrossEntropyLoss(reduction="none"), (inputs, targets), k=128, method="lloyd", iterations=2
    )
    train(model, inputs, targets, options.steps)

    plain, exact = [], []
    base = peak_mib()
    for round_ in range(options.rounds):
        plain.append(plain_epoch(model, inputs, targets))
        measured = gradist.measure(
            model, nn.CrossEntropyLoss(reduction="none"), (inputs, targets), estimators=ESTIMATORS,
            batch_size=128, snapshot=snapshot, clustering=clusters,
        )  # fmt: skip
        exact.append(measured["sg-b"].seconds)
        print(f"round {round_ + 1}: plain epoch {plain[-1]:.2f} s, exact measurement {exact[-1]:.2f} s, "
              f"ratio {exact[-1] / plain[-1]:.2f}", flush=True)  # fmt: skip
    ratios = sorted(e / p for e, p in zip(exact, plain, strict=True))
    print(f"{len(inputs)} examples, {torch.get_num_threads()} threads, coverage {sorted(set(measured.coverage.values()))}")
    print(f"peak memory {peak_mib()} MiB ({base} MiB before measuring)")
    print(f"exact measurement / plain epoch: {statistics.median(ratios):.2f} "
          f"(rounds {ratios[0]:.2f} to {ratios[-1]:.2f}), to reach {TARGET}")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
