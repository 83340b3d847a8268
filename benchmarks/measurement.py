#!/usr/bin/env python
"""What one exact measurement costs beside a plain epoch.

MLP 784-1024-1024-10 on MNIST, or ResNet-8 (networks.py) on 10,000 images of CIFAR-10, float32: one exact measurement of sg-b,
sg-2b, svrg and gc with all sums per coordinate, over one plain epoch of forward and backward passes by PyTorch (minibatches of
128, no optimiser step). Both in this process, one after the other, several rounds; the ratio is the median of the rounds'.
Refreshes (snapshot, clusters) are not in it.

    benchmarks/measurement.py --data-dir ../shared/data/mnist
    benchmarks/measurement.py --model resnet8 --data-dir ../shared/data/cifar10
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

import gradist
from images import IMAGES
from networks import PROBLEMS

REPOSITORY = Path(__file__).resolve().parent.parent
ESTIMATORS = ["sg-b", "sg-2b", "svrg", "gc"]


@dataclass(frozen=True)
class Case:
    """What is measured, the optimiser that trains it first, and the ratio to reach."""

    images: str
    examples: int
    target: float
    learning_rate: float
    momentum: float


CASES = {
    "mlp": Case("mnist", 60_000, target=2.6, learning_rate=0.02, momentum=0.5),
    "resnet8": Case("cifar10", 10_000, target=3.0, learning_rate=0.02, momentum=0.9),
}


def batches(inputs: Tensor, targets: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    return zip(inputs.split(size), targets.split(size), strict=True)


def train(model: nn.Module, inputs: Tensor, targets: Tensor, steps: int, case: Case) -> None:
    """SGD, so that measurements see gradients of a real trajectory; the MLP's as in the preset faghri-mnist-mlp."""
    optimiser = torch.optim.SGD(model.parameters(), lr=case.learning_rate, momentum=case.momentum, weight_decay=5e-4)
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


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=CASES, default="mlp")
    parser.add_argument("--data-dir", type=Path, help="the data set's folder (default: in ../shared/data beside the repository)")
    parser.add_argument("--examples", type=int, help="images to take (default: 60000 of MNIST, 10000 of CIFAR-10)")
    parser.add_argument("--steps", type=int, default=300, help="SGD steps between the snapshot and the measurement")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    return parser.parse_args()


def main() -> int:
    options = parse_options()
    case = CASES[options.model]
    images = IMAGES[case.images]
    folder = options.data_dir or REPOSITORY.parent / "shared" / "data" / images.folder
    if not images.found_in(folder):
        print(f"skipped: no {images.file} in {folder}; name its folder by --data-dir")
        return 0

    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    inputs, targets = images.read(folder, options.examples or case.examples)
    model = PROBLEMS[options.model].network()
    loss_fn = nn.CrossEntropyLoss(reduction="none")
    train(model, inputs, targets, options.steps, case)
    snapshot = {name: value.clone() for name, value in model.state_dict().items()}
    clusters = gradist.cluster(model, loss_fn, (inputs, targets), k=128, method="lloyd", iterations=2)
    train(model, inputs, targets, options.steps, case)

    plain, exact = [], []
    base = peak_mib()
    for round_ in range(options.rounds):
        plain.append(plain_epoch(model, inputs, targets))
        measured = gradist.measure(
            model, loss_fn, (inputs, targets), estimators=ESTIMATORS,
            batch_size=128, snapshot=snapshot, clustering=clusters,
        )  # fmt: skip
        exact.append(measured["sg-b"].seconds)
        print(f"round {round_ + 1}: plain epoch {plain[-1]:.2f} s, exact measurement {exact[-1]:.2f} s, "
              f"ratio {exact[-1] / plain[-1]:.2f}", flush=True)  # fmt: skip
    ratios = sorted(e / p for e, p in zip(exact, plain, strict=True))
    print(f"{options.model}, {len(inputs)} examples, {torch.get_num_threads()} threads, "
          f"coverage {sorted(set(measured.coverage.values()))}")  # fmt: skip
    print(f"peak memory {peak_mib()} MiB ({base} MiB before measuring)")
    print(f"exact measurement / plain epoch: {statistics.median(ratios):.2f} "
          f"(rounds {ratios[0]:.2f} to {ratios[-1]:.2f}), to reach {case.target}")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
