"""The runs and figures of docs/svrg-in-deep-nets.md.

    PYTHONPATH=build/release/python python docs/figures/svrg_in_deep_nets.py [--data-dir FOLDER] [--traces FOLDER] [RUN ...]

Makes the traces that are missing in the folder (each some minutes of one thread), then the figures beside this file for which
all traces are there, and prints the numbers that the page quotes.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.style
import numpy as np
from matplotlib.figure import Figure

import gradist

HERE = Path(__file__).resolve().parent
mpl.style.use(HERE / "paper.mplstyle")
EPOCH = 78  # batches of 128 in 10,000 images

SVRG: dict[str, Any] = {
    "data": "cifar10", "augment": "crop-flip", "norm": "batch", "batch_norm": "reset", "drive": "svrg", "estimator": "svrg",
    "replacement": False, "batch_size": 128, "lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4, "refresh_every": EPOCH,
    "measure": "sampled", "threads": 1,
}  # fmt: skip
RATIOS = {"log_at": [0.02, 0.11, 0.33, 1], "log_at_every": 2, "drift_every": 3}
EPOCH_TWO = {"model": "lenet5", "iterations": 2 * EPOCH - 1, "draws": EPOCH // 2, "log_at": [0, 0.02, 0.11, 0.33, 0.66, 1]}
BATCH_NORM = {"model": "lenet5", "iterations": 4 * EPOCH - 1, "draws": 3, "log_at": [0.5, 1]}
DEEP = RATIOS | {"iterations": 3 * EPOCH - 1, "draws": EPOCH // 3}
TEN_EPOCHS = {"model": "lenet5", "iterations": 10 * EPOCH, "lr_drop": [6 * EPOCH], "log_every": EPOCH, "draws": 3}
METHODS: dict[str, dict[str, Any]] = {"svrg": {}, "sgd": {"drive": "none", "estimator": "sg-b", "transform_locking": "off"}}
SHARES = (0, 0.1, 0.5, 1)
SEEDS = (0, 1, 2)
NETWORKS = {"lenet": "#0072b2", "resnet": "#d55e00", "resnet18": "#009e73"}

RUNS: dict[str, dict[str, Any]] = {
    "lenet": RATIOS | {"model": "lenet5", "iterations": 9 * EPOCH - 1, "lr_drop": [6 * EPOCH], "draws": EPOCH // 2},
    "locked": EPOCH_TWO,
    "not-locked": EPOCH_TWO | {"transform_locking": "off"},
    "reset": BATCH_NORM,
    "naive": BATCH_NORM | {"batch_norm": "train"},
    "resnet": DEEP | {"model": "resnet20", "width": 0.5},
    "resnet18": DEEP | {"model": "resnet18-cifar", "width": 0.25},
} | {
    f"averaging-{method}-{share}-{seed}": TEN_EPOCHS | METHODS[method] | {"iterate_averaging": share, "seed": seed}
    for seed in SEEDS for method in METHODS for share in SHARES
}  # fmt: skip


def locking(traces: dict[str, gradist.Trace]) -> Figure:
    """Variance of the step within epoch two, with and without locking: [Defazio19] Fig. 1."""
    figure = Figure(figsize=(4.2, 2.8), layout="constrained")
    axes = figure.subplots()
    for name, color in (("locked", "#0072b2"), ("not-locked", "#d55e00")):
        trace = traces[name]
        second = trace.iterations >= EPOCH
        way = (trace.iterations[second] - EPOCH) / EPOCH
        series = trace["svrg"]
        axes.plot(way, series.average_variance[second], ".-", color=color, label=f"SVRG, {name.replace('-', ' ')}")
        axes.fill_between(way, series.ci_low[second], series.ci_high[second], color=color, alpha=0.2, linewidth=0)
        print(name, "ratio within epoch two:", np.round(series.variance_ratio[second], 3))
    axes.set_xlabel("Part of epoch two")
    axes.set_ylabel("Average variance")
    axes.set_ylim(bottom=0)
    axes.legend()
    return figure


def batch_norm(traces: dict[str, gradist.Trace]) -> Figure:
    """Loss of the tested network where the running statistics are put back after each evaluation at the snapshot, and not."""
    figure = Figure(figsize=(4.2, 2.8), layout="constrained")
    axes = figure.subplots()
    for name, color in (("reset", "#0072b2"), ("naive", "#d55e00")):
        trajectory = traces[name].trajectory
        axes.plot(trajectory.epoch, trajectory.test_loss, ".-", color=color, label=name)
        print(name, "test loss:", np.round(trajectory.test_loss, 3), "accuracy:", np.round(trajectory.test_accuracy, 3))
    axes.set_xlabel("Epoch")
    axes.set_ylabel("Test loss")
    axes.set_yscale("log")
    axes.set_yticks([1, 2, 5, 10], labels=["1", "2", "5", "10"])
    axes.minorticks_off()
    axes.legend()
    return figure


def drift(traces: dict[str, gradist.Trace]) -> Figure:
    """Distance and curvature within the last interval that all runs followed: [Defazio19] Fig. 3."""
    figure = Figure(figsize=(6.5, 2.6), layout="constrained")
    panels = figure.subplots(1, 2)
    starts = {name: traces[name].drift.iteration - traces[name].drift.since_snapshot for name in NETWORKS}
    start = max(set.intersection(*(set(each) for each in starts.values())))
    for name, color in NETWORKS.items():
        series, there = traces[name].drift, starts[name] == start
        for axes, quantity in zip(panels, ("distance", "curvature"), strict=True):
            axes.plot(series.since_snapshot[there], series[quantity][there], color=color, label=name)
            axes.set_xlabel("Iterations after the snapshot")
            axes.set_ylabel(quantity.capitalize())
        print(
            name, f"epoch {start // EPOCH}: distance at the end", round(float(series.distance[there][-1]), 3),
            "curvature: first, median", round(float(series.curvature[there][0]), 3),
            round(float(np.median(series.curvature[there])), 3),
        )  # fmt: skip
    panels[1].set_yscale("log")
    panels[0].legend()
    return figure


def networks(traces: dict[str, gradist.Trace]) -> Figure:
    """The ratio within the epochs that were measured of all networks, those of [Defazio19] Fig. 2 laid over each other."""
    figure = Figure(figsize=(6.5, 2.6), layout="constrained")
    panels = figure.subplots(1, 2)
    for axes, epoch in zip(panels, (0, 2), strict=True):
        for name, color in NETWORKS.items():
            trace = traces[name]
            there = trace.iterations // EPOCH == epoch
            way, series = trace.iterations[there] / EPOCH - epoch, trace["svrg"]
            label = f"{name}, {trace.parameters:,} parameters"
            axes.plot(way, series.variance_ratio[there], ".-", color=color, label=label)
            axes.vlines(way, series.variance_ratio_low[there], series.variance_ratio_high[there], color=color, linewidth=0.8)
        axes.axhline(1 / 3, color="#555555", linewidth=0.8, linestyle="--")
        axes.annotate("1/3", (1, 1 / 3), xycoords=axes.get_yaxis_transform(), color="#555555", va="bottom", ha="right")
        axes.set_title(f"Epoch {epoch}", loc="left", fontsize=8)
        axes.set_xlabel("Part of the epoch")
        axes.set_ylim(bottom=0)
    panels[0].set_ylabel("SVRG / SGD variance")
    panels[0].legend(fontsize=7)
    return figure


def print_averaging(traces: dict[str, gradist.Trace]) -> None:
    """Test accuracy after each epoch, at the mean iterate: mean over the seeds, and the standard error of the last one."""
    for method in METHODS:
        for share in SHARES:
            runs = [traces[name] for seed in SEEDS if (name := f"averaging-{method}-{share}-{seed}") in traces]
            if runs:
                accuracy = np.array([run.trajectory.test_accuracy for run in runs])
                train = np.array([run.trajectory.train_loss for run in runs])
                error = accuracy[:, -1].std(ddof=1) / np.sqrt(len(runs)) if len(runs) > 1 else np.nan
                print(
                    f"{method} {share:3} of {len(runs)} seeds: accuracy", np.round(accuracy.mean(0), 3), f"+- {error:.3f}",
                    "train loss", np.round(train.mean(0), 3),
                )  # fmt: skip


def print_ratios(name: str, trace: gradist.Trace) -> None:
    series = trace["svrg"]
    print(name, trace.parameters, "parameters; epoch, part of the interval, ratio [interval], test accuracy")
    for t, iteration in enumerate(trace.iterations):
        print(
            f"  {iteration / EPOCH:6.2f} {iteration % EPOCH / EPOCH:5.2f} {series.variance_ratio[t]:7.3f} "
            f"[{series.variance_ratio_low[t]:.3f}, {series.variance_ratio_high[t]:.3f}] {trace.trajectory.test_accuracy[t]:.3f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path, default=HERE.parents[2] / "shared" / "data" / "cifar10")
    parser.add_argument("--traces", type=Path, default=Path("svrg-in-deep-nets"))
    parser.add_argument("runs", nargs="*", help=f"of {', '.join(RUNS)}; all if none is named")
    arguments = parser.parse_args()
    arguments.traces.mkdir(exist_ok=True)
    traces = {}
    for name, options in RUNS.items():
        out = arguments.traces / f"{name}.h5"
        if out.exists():
            traces[name] = gradist.open(out)
        elif name in arguments.runs or not arguments.runs:
            traces[name] = gradist.run(**SVRG | options, data_dir=arguments.data_dir, out=out, progress=False)
    for name, needed, make in (
        ("svrg-locking", ("locked", "not-locked"), locking),
        ("svrg-batch-norm", ("reset", "naive"), batch_norm),
        ("svrg-drift", tuple(NETWORKS), drift),
        ("svrg-ratio-networks", tuple(NETWORKS), networks),
    ):
        if all(each in traces for each in needed):
            make(traces).savefig(HERE / f"{name}.png", dpi=150)
    print_averaging(traces)
    for name in NETWORKS:
        if name in traces:
            print_ratios(name, traces[name])
    if "lenet" in traces:
        traces["lenet"].plot("variance-ratio").savefig(HERE / "svrg-ratio-lenet.png", dpi=150)


if __name__ == "__main__":
    main()
