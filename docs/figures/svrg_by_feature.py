"""The figure "One feature at a time" of docs/svrg-in-deep-nets.md: linear regression, SGD and SVRG feature by feature.

    PYTHONPATH=build/release/python python docs/figures/svrg_by_feature.py [--data NAME --data-dir FOLDER]

Takes seconds on a9a, whose labels -1 and 1 are the numbers to predict. `--data year-prediction-msd` is for those who have it.
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path

import matplotlib as mpl
import matplotlib.style
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

import gradist

HERE = Path(__file__).resolve().parent
mpl.style.use(HERE / "paper.mplstyle")
BATCH_SIZE = 128
PARTS = (0.01, 0.1, 1)  # of an epoch after the snapshot
COLORS = dict(zip(PARTS, ("#56b4e9", "#0072b2", "#003f63"), strict=True))


def loss_fn(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs.squeeze(1) - targets).square() / 2


def gradient(model: nn.Linear, inputs: Tensor, targets: Tensor) -> Tensor:
    """Of the mean loss, for the weight and the bias [1, I + 1]."""
    residual = model(inputs).detach() - targets.unsqueeze(1)
    return torch.cat([residual.T @ inputs, residual.sum(0, keepdim=True)], 1) / len(targets)


def step(model: nn.Linear, direction: Tensor, rate: float) -> None:
    with torch.no_grad():
        model.weight -= rate * direction[:, :-1]
        model.bias -= rate * direction[:, -1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="libsvm")
    parser.add_argument("--data-dir", type=Path, default=HERE.parents[2] / "shared" / "data" / "a9a")
    arguments = parser.parse_args()
    inputs, targets = (each.to_dense().double() for each in gradist.load_data(arguments.data, arguments.data_dir, targets="numbers").train)
    steps = len(targets) // BATCH_SIZE
    rate = 0.5 / float(inputs.square().sum(1).mean() + 1)  # half of one over the mean of ||(x, 1)||^2
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    model = nn.Linear(inputs.shape[1], 1).double()

    def batch() -> tuple[Tensor, Tensor]:
        drawn = torch.randint(len(targets), (BATCH_SIZE,), generator=generator)
        return inputs[drawn], targets[drawn]

    for _ in range(steps):  # one epoch of SGD, then a snapshot
        step(model, gradient(model, *batch()), rate)
    snapshot, full = copy.deepcopy(model), gradient(model, inputs, targets)
    found = {}
    for done in range(1, steps + 1):  # one of SVRG
        drawn = batch()
        step(model, gradient(model, *drawn) - gradient(snapshot, *drawn) + full, rate)
        for part in PARTS:
            if done == max(1, round(part * steps)):
                found[part] = gradist.per_coordinate(
                    model, loss_fn, (inputs, targets), snapshot=snapshot.state_dict(), batch_size=BATCH_SIZE
                )
    draw(found).savefig(HERE / "svrg-by-feature.png", dpi=150)


def draw(found: dict[float, dict[str, gradist.Coordinates]]) -> Figure:
    """Mean and deviation of both estimates at the end of the epoch; variances on the way there."""
    figure = Figure(figsize=(6.5, 2.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    last = found[PARTS[-1]]
    order = torch.argsort(last["sg-b"].variance["weight"][0], descending=True)
    features = np.arange(1, len(order) + 1)

    def weights(values: dict[str, Tensor]) -> np.ndarray:
        return values["weight"][0][order].numpy()

    for name, color, label in (("sg-b", "#999999", "SGD"), ("svrg", COLORS[PARTS[-1]], "SVRG")):
        mean, deviation = weights(last[name].mean), weights(last[name].deviation)
        left.fill_between(features, mean - deviation, mean + deviation, color=color, alpha=0.6, linewidth=0, label=f"{label}, one deviation")
    left.plot(features, weights(last["sg-b"].mean), color="black", linewidth=0.8, label="mean of both")
    left.set_ylabel("Gradient estimate")
    left.set_title("At the end of the epoch", loc="left", fontsize=8)
    right.plot(features, weights(last["sg-b"].variance), color="#999999", label="SGD")
    for part in PARTS:
        plain, svrg = (weights(found[part][name].variance) for name in ("sg-b", "svrg"))
        right.plot(features, svrg, color=COLORS[part], label=f"SVRG, {100 * part:g} % of an epoch on")
        ratios = svrg[plain > 0] / plain[plain > 0]
        print(
            f"{part:4.0%} of an epoch: variance of SVRG over SGD: median {np.median(ratios):.2g}, least {ratios.min():.2g}, most "
            f"{ratios.max():.2g}, above 1 in {(ratios > 1).sum()} of {len(ratios)} features; of the sums {svrg.sum() / plain.sum():.2g}"
        )
    right.set_yscale("log")
    right.set_ylim(float(np.median(weights(found[PARTS[0]]["svrg"].variance))) / 100, 0.1)
    right.set_ylabel("Variance of the estimate")
    for axes in (left, right):
        axes.set_xlabel("Feature, by SGD's variance")
        axes.legend(fontsize=7)
    return figure


if __name__ == "__main__":
    main()
