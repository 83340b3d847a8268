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

import torch
from torch import nn

import gradist
from cases import CASES, add_case_options, load_case, plain_epoch, positive, train

ESTIMATORS = ["sg-b", "sg-2b", "svrg", "gc"]
TARGETS = {"mlp": 2.6, "resnet8": 3.0}


def peak_mib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_case_options(parser, model="mlp")
    parser.add_argument("--steps", type=int, default=300, help="SGD steps between the snapshot and the measurement")
    parser.add_argument("--rounds", type=positive, default=5)
    return parser.parse_args()


def main() -> int:
    options = parse_options()
    case = CASES[options.model]
    model, (inputs, targets) = load_case(options)
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
          f"(rounds {ratios[0]:.2f} to {ratios[-1]:.2f}), to reach {TARGETS[options.model]}")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
