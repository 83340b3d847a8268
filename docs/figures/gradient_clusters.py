"""The figures of clusters in docs/gradient-clustering.md: [Faghri20] Fig. 1, and images of clusters of MNIST's gradients.

    PYTHONPATH=build/release/python python docs/figures/gradient_clusters.py [--data-dir FOLDER]

Seconds of one thread. Without MNIST's files in the folder the second figure is left out.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib as mpl
import matplotlib.style
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

import gradist

HERE = Path(__file__).resolve().parent
mpl.style.use(HERE / "paper.mplstyle")
LOSS = nn.CrossEntropyLoss(reduction="none")
COLORS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7")  # of clusters, the largest first
RATE = 0.5
PREDICTED = 2.0  # rate of the steps that are predicted: four of those taken, to be seen
SIDE = 4.0


def train(model: nn.Module, inputs: Tensor, targets: Tensor, steps: int, rate: float, batch: int = 0, momentum: float = 0.0) -> None:
    """Steps of gradient descent, by all examples or by random minibatches."""
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=momentum)
    for _ in range(steps):
        picks = torch.randint(len(inputs), (batch,)) if batch else slice(None)
        optimizer.zero_grad()
        LOSS(model(inputs[picks]), targets[picks]).mean().backward()
        optimizer.step()


def boundary(axes: Axes, parameters: list[Tensor], **style: object) -> None:
    """Where both outputs of a linear classifier of the plane are equal."""
    weight, bias = parameters[0][1] - parameters[0][0], parameters[1][1] - parameters[1][0]
    foot = -bias * weight / weight.square().sum()
    along = torch.stack([-weight[1], weight[0]]) / weight.norm()
    ends = foot + torch.tensor([[-3 * SIDE], [3 * SIDE]]) * along
    axes.plot(*ends.T, **style)


def plane(seed: int = 0) -> Figure:
    """Four clusters of the gradients of a linear classifier while it is trained; dashed, its boundary after a step along the mean
    gradient of each."""
    torch.manual_seed(seed)
    middle = torch.tensor([1.6, 0.8])
    points = torch.cat([0.6 * torch.randn(60, 2) - middle, 0.6 * torch.randn(60, 2) + middle])
    classes = torch.arange(2).repeat_interleave(60)
    model = nn.Linear(2, 2)
    clusters = None
    figure = Figure(figsize=(6.5, 2.0), layout="constrained")
    steps = (0, 1, 4, 20)
    for axes, before, after in zip(figure.subplots(1, 4, sharex=True, sharey=True), (0, *steps), steps, strict=False):
        train(model, points, classes, after - before, RATE)
        clusters = gradist.cluster(model, LOSS, (points, classes), k=4, method="descent", start=clusters)
        own = [each.detach() for each in model.parameters()]
        for color, k in zip(COLORS, clusters.sizes.argsort(descending=True), strict=True):
            members = clusters.assignments == k
            for label, marker in enumerate("ox"):
                axes.scatter(*points[members & (classes == label)].T, s=9, marker=marker, color=color, linewidths=0.7)
            mean = torch.autograd.grad(LOSS(model(points[members]), classes[members]).mean(), list(model.parameters()))
            boundary(axes, [each - PREDICTED * step for each, step in zip(own, mean, strict=True)], color=color, linestyle="--", linewidth=1)
        boundary(axes, own, color="black")
        axes.set_title(f"after {after} steps\nsizes {', '.join(map(str, sorted(clusters.sizes.tolist(), reverse=True)))}", loc="left", fontsize=7)
        axes.set(xlim=(-SIDE, SIDE), ylim=(-SIDE, SIDE), aspect="equal", xticks=[-3, 0, 3], yticks=[-3, 0, 3])
        both = [k for k in range(4) if len(classes[clusters.assignments == k].unique()) == 2]
        print(f"after {after} steps: sizes {clusters.sizes.tolist()}, of both classes: {both}")
    return figure


def digits(folder: Path) -> Figure:
    """Images of clusters of 10,000 examples of MNIST, a small network after 300 steps: the four largest, and four smaller ones."""
    torch.manual_seed(1)
    images, labels = (each[:10_000] for each in gradist.load_data("mnist", folder).train)
    inputs = images.flatten(1)
    model = nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))
    train(model, inputs, labels, 300, 0.05, batch=64, momentum=0.9)
    clusters = gradist.cluster(model, LOSS, (inputs, labels), k=32, method="descent")
    distances = clusters.distances(model, LOSS, (inputs, labels))
    shown = clusters.sizes.argsort(descending=True)[[0, 1, 2, 3, 8, 14, 20, 26]].tolist()
    print("sizes", clusters.sizes[shown].tolist(), "of", sorted(clusters.sizes.tolist()))
    return clusters.plot(images, distances, labels, clusters=shown, cmap="gray_r")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path, default=HERE.parents[2] / "shared" / "data" / "mnist")
    folder = parser.parse_args().data_dir
    torch.set_num_threads(1)
    plane().savefig(HERE / "clusters-in-the-plane.png", dpi=150)
    if folder.exists():
        digits(folder).savefig(HERE / "clusters-of-digits.png", dpi=150)
    else:
        print(f"{folder} is missing: clusters-of-digits.png is left as it is")


if __name__ == "__main__":
    main()
