#!/usr/bin/env python
"""How the variance of Gradient Clustering grows between refreshes, over that of a plain minibatch at the same parameters.

Trains ResNet-8 without batch norm on 10,000 images of CIFAR-10 (learning rate 0.01, momentum 0.9), or the MLP 784-1024-1024-10 on
MNIST (0.02, 0.5), both with weight decay 5e-4 and batches of 128, as [Faghri20] appendix C.1. K = B = 128. From iteration
`--first` on the examples are clustered every `--refresh-every` iterations in each of the ways below, and at every log point the
exact variance is measured. Writes a table as CSV, and prints it.

    gc-descent       from the former clusters, with the memory of the former refresh's gradients
    no memory        from the former clusters only
    cold             from a random partition
    half as many     64 clusters, two draws each in the mean, divided by Neyman's rule at the refresh
    equal sizes      clusters of N / K examples, from the former ones
    importance       draws by norms within the clusters of "gc-descent"
    gc               the paper's algorithm, 10 steps

and after the last log point prints each way's mean over the refreshes but the first, which has no former one, by steps since.

    benchmarks/staleness.py --first 2400 --iterations 3000 --out staleness.csv
"""

from __future__ import annotations

import argparse
import csv
import statistics
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import gradist
from cases import CASES, add_case_options, load_case

BATCH = 128
LEARNING_RATES = {"resnet8": 0.01, "mlp": 0.02}


class Way(NamedTuple):
    options: dict[str, Any] = {"method": "descent"}  # of gradist.cluster
    warm: bool = True
    estimator: str = "gc"
    allocation: str = "proportional"


WAYS = {
    "gc-descent": Way(),
    "no memory": Way({"method": "descent", "memory": 0}),
    "cold": Way(warm=False),
    "half as many": Way({"method": "descent", "k": BATCH // 2}, allocation="neyman"),
    "equal sizes": Way({"method": "descent", "balanced": True}),
    "importance": Way(estimator="gc-importance"),
    "gc": Way({"method": "lloyd"}, warm=False),
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
    begin = time.perf_counter()
    by_steps: dict[int, list[dict[str, float]]] = {}

    def refresh(iteration: int) -> None:
        for name in ways:
            if name == "importance" and "gc-descent" in ways:
                made[name] = made["gc-descent"]  # the same clusters
                continue
            start = made.get(name) if WAYS[name].warm else None
            made[name] = gradist.cluster(
                model, loss_fn, data, iterations=options.sweeps, seed=iteration, start=start, **({"k": BATCH} | WAYS[name].options)
            )

    def ratios() -> dict[str, float]:
        found = {}
        for name, clusters in made.items():
            estimator, allocation = WAYS[name].estimator, WAYS[name].allocation
            estimators = [estimator] if found else ["sg-b", estimator]
            m = gradist.measure(
                model, loss_fn, data, estimators=estimators, batch_size=BATCH, clustering=clusters, allocation=allocation
            )
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
                found = ratios()
                if iteration >= options.first + options.refresh_every:
                    by_steps.setdefault(since, []).append(found)
                row |= {name: f"{ratio:.4f}" for name, ratio in found.items()}
                table.writerow(row)
                file.flush()
                print(" ".join(f"{name} {value}" for name, value in row.items()), f"({time.perf_counter() - begin:.0f} s)", flush=True)
            if iteration < options.iterations:
                trajectory.step()
    for name in ways:
        means = {since: statistics.mean(each[name] for each in by_steps[since]) for since in sorted(by_steps)}
        print(f"{name}: " + " ".join(f"{since}: {mean:.3f}" for since, mean in means.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
