"""The figure "One feature at a time" of docs/svrg-in-deep-nets.md: linear regression, SGD and SVRG feature by feature.

    PYTHONPATH=build/release/python python docs/figures/svrg_by_feature.py [--data NAME --data-dir FOLDER]

Takes seconds on a9a, whose labels -1 and 1 are the numbers to predict. `--data year-prediction-msd` is for those who have it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib as mpl
import matplotlib.style
import numpy as np
from matplotlib.figure import Figure

import gradist

HERE = Path(__file__).resolve().parent
mpl.style.use(HERE / "paper.mplstyle")
BATCH_SIZE = 128
PARTS = (0.01, 0.1, 1)  # of an epoch after the snapshot
COLORS = dict(zip(PARTS, ("#56b4e9", "#0072b2", "#003f63"), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="libsvm")
    parser.add_argument("--data-dir", type=Path, default=HERE.parents[2] / "shared" / "data" / "a9a")
    arguments = parser.parse_args()
    inputs, targets = (each.to_dense() for each in gradist.load_data(arguments.data, arguments.data_dir, targets="numbers").train)
    steps = len(targets) // BATCH_SIZE
    trace = gradist.run(
        data=arguments.data, data_dir=arguments.data_dir, targets="numbers", model="linear", drive="svrg", estimator=["sg-b", "svrg"],
        batch_size=BATCH_SIZE, lr=0.5 / float(inputs.square().sum(1).mean() + 1),  # half of one over the mean of ||(x, 1)||^2
        momentum=0, weight_decay=0, refresh_every=steps, iterations=2 * steps, log_at=PARTS, per_coordinate=True, progress=False,
    )  # fmt: skip
    second = [np.flatnonzero(trace.iterations >= steps)[place] for place in range(len(PARTS))]
    draw(trace, dict(zip(PARTS, second, strict=True))).savefig(HERE / "svrg-by-feature.png", dpi=150)


def draw(trace: gradist.Trace, points: dict[float, int]) -> Figure:
    """Mean and deviation of both estimates at the end of the epoch; variances on the way there."""
    figure = Figure(figsize=(6.5, 2.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    (weight,) = (name for name in trace.layers if name.endswith("weight"))

    def variance(estimator: str, part: float) -> np.ndarray:
        return trace[estimator].coordinate_variance[weight][points[part]].ravel()

    last = PARTS[-1]
    order = np.argsort(-variance("sg-b", last), kind="stable")
    features = np.arange(1, len(order) + 1)
    mean = trace.full_gradient[weight][points[last]].ravel()[order]
    for name, color, label in (("sg-b", "#999999", "SGD"), ("svrg", COLORS[last], "SVRG")):
        deviation = np.sqrt(variance(name, last)[order])
        left.fill_between(features, mean - deviation, mean + deviation, color=color, alpha=0.6, linewidth=0, label=f"{label}, one deviation")
    left.plot(features, mean, color="black", linewidth=0.8, label="mean of both")
    left.set_ylabel("Gradient estimate")
    left.set_title("At the end of the epoch", loc="left", fontsize=8)
    right.plot(features, variance("sg-b", last)[order], color="#999999", label="SGD")
    for part in PARTS:
        plain, svrg = (variance(name, part)[order] for name in ("sg-b", "svrg"))
        right.plot(features, svrg, color=COLORS[part], label=f"SVRG, {100 * part:g} % of an epoch on")
        ratios = svrg[plain > 0] / plain[plain > 0]
        print(
            f"{part:4.0%} of an epoch: variance of SVRG over SGD: median {np.median(ratios):.2g}, least {ratios.min():.2g}, most "
            f"{ratios.max():.2g}, above 1 in {(ratios > 1).sum()} of {len(ratios)} features; of the sums {svrg.sum() / plain.sum():.2g}"
        )
    right.set_yscale("log")
    right.set_ylim(float(np.median(variance("svrg", PARTS[0]))) / 100, 1)
    right.set_ylabel("Variance of the estimate")
    for axes in (left, right):
        axes.set_xlabel("Feature, by SGD's variance")
        axes.legend(fontsize=7)
    return figure


if __name__ == "__main__":
    main()
