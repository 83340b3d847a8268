"""The two problems with real images that benchmarks measure on: the MLP on MNIST and ResNet-8 (networks.py) on CIFAR-10."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

import gradist
from networks import PROBLEMS

__all__ = ["CASES", "Case", "add_case_options", "load_case", "plain_epoch", "train"]


@dataclass(frozen=True)
class Case:
    """A data set, how many of its examples are taken, and the optimiser that trains the network first."""

    data: str
    examples: int
    learning_rate: float
    momentum: float


CASES = {
    "mlp": Case("mnist", 60_000, learning_rate=0.02, momentum=0.5),
    "resnet8": Case("cifar10", 10_000, learning_rate=0.02, momentum=0.9),
}


def positive(text: str) -> int:
    """For argparse: a whole number >= 1."""
    if (number := int(text)) < 1:
        raise ValueError
    return number


def add_case_options(parser: argparse.ArgumentParser, model: str) -> None:
    """Options of every benchmark on a case; `model` is the default."""
    parser.add_argument("--model", choices=CASES, default=model)
    parser.add_argument("--data-dir", type=Path, help="the data set's folder (default: in ../shared/data beside the repository)")
    parser.add_argument("--examples", type=positive, help="images to take (default: 60000 of MNIST, 10000 of CIFAR-10)")
    parser.add_argument("--threads", type=positive, default=torch.get_num_threads())


def load_case(options: argparse.Namespace, seed: int = 0) -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    """The network, untrained, and its training set; ends the program, saying so, where the data are not there."""
    case, problem = CASES[options.model], PROBLEMS[options.model]
    folder = options.data_dir or Path(__file__).resolve().parents[2] / "shared" / "data" / case.data
    if not folder.is_dir():
        print(f"skipped: no {case.data} in {folder}; name its folder by --data-dir")
        sys.exit(0)
    try:
        inputs, targets = gradist.load_data(case.data, folder).train
    except (OSError, ValueError) as error:
        sys.exit(str(error))
    torch.manual_seed(seed)
    torch.set_num_threads(options.threads)
    taken = options.examples or case.examples
    return problem.network(), (inputs[:taken].reshape(-1, *problem.inputs), targets[:taken])


def train(model: nn.Module, inputs: Tensor, targets: Tensor, steps: int, case: Case) -> None:
    """SGD, so that measurements see gradients of a real trajectory; the MLP's as in the preset faghri-mnist-mlp."""
    optimiser = torch.optim.SGD(model.parameters(), lr=case.learning_rate, momentum=case.momentum, weight_decay=5e-4)
    for _ in range(steps):
        picks = torch.randint(len(inputs), (128,))
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(inputs[picks]), targets[picks]).backward()
        optimiser.step()
    optimiser.zero_grad()


def batches(inputs: Tensor, targets: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    return zip(inputs.split(size), targets.split(size), strict=True)


def plain_epoch(model: nn.Module, inputs: Tensor, targets: Tensor) -> float:
    """Seconds of one epoch of forward and backward passes, minibatches of 128, no optimiser step."""
    start = time.perf_counter()
    for x, y in batches(inputs, targets, 128):
        model.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
    return time.perf_counter() - start
