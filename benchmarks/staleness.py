#!/usr/bin/env python
"""How the variance of Gradient Clustering grows between refreshes, over that of a plain minibatch at the same parameters.

Trains ResNet-8 without batch norm on 10,000 images of CIFAR-10 (learning rate 0.01, momentum 0.9), or the MLP 784-1024-1024-10 on
MNIST (0.02, 0.5), both with weight decay 5e-4 and batches of 128, as [Faghri20] appendix C.1. K = B = 128. From iteration
`--first` on the examples are clustered every `--refresh-every` iterations in each of the ways below, and at every log point the
exact variance is measured. Writes a table as CSV, and prints it.

    descent          gc-descent, from the former clusters
    descent, memory  the same with the former refresh's gradients at weight 0.5
    importance       draws by norms within the clusters of "descent, memory"
    lloyd            the paper's algorithm, 10 steps

    benchmarks/staleness.py --first 2400 --iterations 3000 --out staleness.csv
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from pathlib import Path

import torch
from torch import Tensor, nn

import gradist
from cases import CASES, add_case_options, load_case

BATCH = 128
LEARNING_RATES = {"resnet8": 0.01, "mlp": 0.02}
WAYS = {
    "descent": {"method": "descent", "memory": 0},
    "descent, memory": {"method": "descent"},
    "importance": {"method": "descent"},
    "lloyd": {"method": "lloyd"},
}


class Trajectory:
    """SGD in epochs without replacement; what is left over at the end of an epoch is left out."""

    def __init__(self, model: nn.Module, inputs: Tensor, targets: Tensor, learning_rate: float, momentum: float) -> None:
        self.model, self.inputs, self.targets = model, inputs, targets
        self.optimiser = torch.optim.SGD(model.parameters(), lr=learning_rate, momentum=momentum, weight_decay=5e-4)
        self.order, self.used = torch.empty(0, dtype=torch.int64), 0

    def step(self) -> None:
        if self.used + BATCH > len(self.order):
            self.order, self.used = torch.randperm(len(self.inputs)), 0
        picks = self.order[self.used : self.used + BATCH]
        self.used += BATCH
        self.optimiser.zero_grad()
        nn.functional.cross_entropy(self.model(self.inputs[picks]), self.targets[picks]).backward()
        self.optimiser.step()


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_case_options(parser, model="resnet8")
    parser.add_argument("--first", type=int, default=400, help="iteration of the first refresh")
    parser.add_argument("--iterations", type=int, default=3000)
    parser.add_argument("--refresh-every", type=int, default=200)
    parser.add_argument("--log-every", type=int, default=50)
    parser.add_argument("--sweeps", type=int, default=10)
    parser.add_argument("--way", action="append", choices=WAYS, help="one of the ways above, several times (default: all)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("staleness.csv"))
    return parser.parse_args()


def main() -> int:
    options = parse_options()
    case = CASES[options.model]
    model, data = load_case(options, options.seed)
    inputs, targets = data
    loss_fn = nn.CrossEntropyLoss(reduction="none")
    trajectory = Trajectory(model, inputs, targets, LEARNING_RATES[options.model], case.momentum)
    ways = options.way or list(WAYS)
    made: dict[str, gradist.Clustering] = {}
    start = time.perf_counter()

    def refresh(iteration: int) -> None:
        for name in ways:
            if name == "importance" and "descent, memory" in made and "descent, memory" in ways:
                made[name] = made["descent, memory"]  # the same clusters
                continue
            begin = {"start": made.get(name)} if WAYS[name]["method"] == "descent" else {}
            made[name] = gradist.cluster(
                model, loss_fn, data, k=BATCH, iterations=options.sweeps, seed=iteration, **begin, **WAYS[name]
            )

    def ratios() -> dict[str, float]:
        found = {}
        for name, clusters in made.items():
            estimator = "gc-importance" if name == "importance" else "gc"
            estimators = [estimator] if found else ["sg-b", estimator]
            m = gradist.measure(model, loss_fn, data, estimators=estimators, batch_size=BATCH, clustering=clusters)
            found["sg-b"] = found.get("sg-b") or m["sg-b"].trace_covariance
            found[name] = m[estimator].trace_covariance
        return {name: found[name] / found["sg-b"] for name in made}

    with options.out.open("w", newline="") as file:
        table = csv.DictWriter(file, ["iteration", "since_refresh", "train_loss", *ways])
        table.writeheader()
        for iteration in range(options.iterations + 1):
            since = (iteration - options.first) % options.refresh_every
            if iteration >= options.first and since == 0:
                refresh(iteration)
            if iteration >= options.first and (iteration % options.log_every == 0 or iteration == options.iterations):
                with torch.no_grad():
                    loss = torch.cat([loss_fn(model(x), y) for x, y in zip(inputs.split(500), targets.split(500), strict=True)]).mean().item()
                row = {"iteration": iteration, "since_refresh": since, "train_loss": f"{loss:.4f}"}
                row |= {name: f"{ratio:.4f}" for name, ratio in ratios().items()}
                table.writerow(row)
                file.flush()
                print(" ".join(f"{name} {value}" for name, value in row.items()), f"({time.perf_counter() - start:.0f} s)", flush=True)
            if iteration < options.iterations:
                trajectory.step()
    return 0


if __name__ == "__main__":
    sys.exit(main())
