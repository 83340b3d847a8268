#!/usr/bin/env python
"""What is left of the variance of SG-B by Gradient Clustering, and how it goes stale: the figures of docs/gradient-clustering.md.

Trajectories of `gradist run` with the settings of [Faghri20] appendix C.1 (batches of 128, weight decay 5e-4); exact average
variance over that of SG-B at every log point. SG-2B is 0.5. A trajectory whose trace is in `--folder` already is not run again.

    problems   MNIST, Fashion-MNIST (MLP 784-1024-1024-10, refresh every 2,000) and CIFAR-10 (10,000 images, ResNet-8 without
               batch norm, refresh every 200)
    examples   MNIST with 1,000 to 60,000 training examples, so N / K from 8 to 469; mean over the refreshes of a trained network
               by steps since
    labels     MNIST, 15,000 examples, with 0, 10 and 30 % of the labels corrupted; likewise

With --keep, traces and reports of the first part are put into a folder too, without the clusters of single examples, which are most
of a trace's bytes.

    benchmarks/between_refreshes.py --part examples --part labels --folder traces
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import gradist
from gradist import report
from gradist.plots import color_of

MLP = {"preset": "faghri-mnist-mlp"}
RESNET8 = {
    "data": "cifar10", "model": "resnet8", "batch_size": 128, "lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4, "refresh_every": 200,
}  # fmt: skip
SHORT = {"iterations": 4000, "refresh_every": 1000, "log_every": 100, "estimator": ["sg-b", "gc-descent"]}

RUNS: dict[str, dict[str, dict[str, Any]]] = {
    "problems": {
        "MNIST, MLP": {**MLP, "iterations": 6000, "log_every": 500, "estimator": ["sg-b", "sg-2b", "gc", "gc-descent"]},
        "Fashion-MNIST, MLP": {
            **MLP, "data": "fashion-mnist", "iterations": 6000, "log_every": 500, "estimator": ["sg-b", "sg-2b", "gc", "gc-descent"],
        },
        "CIFAR-10, ResNet-8": {**RESNET8, "iterations": 3000, "log_every": 100, "estimator": ["sg-b", "sg-2b", "gc-descent"]},
    },
    "examples": {f"N = {n:,}": {**MLP, **SHORT, "train_examples": n} for n in (1_000, 4_000, 15_000, 60_000)},
    "labels": {
        f"{round(100 * share)} % corrupted": {**MLP, **SHORT, "train_examples": 15_000, "label_corruption": share} for share in (0.0, 0.1, 0.3)
    },
}  # fmt: skip


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", action="append", choices=RUNS, help="one of the parts above, several times (default: all)")
    parser.add_argument("--folder", type=Path, default=Path("between-refreshes"), help="of the traces and figures")
    parser.add_argument("--keep", type=Path, help="folder for small copies of the problems' traces, and their reports")
    parser.add_argument("--shared", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data", help="folder of the data sets' folders")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def file_of(title: str) -> str:
    """ "MNIST, MLP": mnist-mlp.h5"""
    return "-".join("".join(each if each.isalnum() else " " for each in title.lower()).split()) + ".h5"


def trace_of(title: str, run: dict[str, Any], options: argparse.Namespace) -> gradist.Trace | None:
    """The trace of a trajectory, from the folder if it is there; None where the data are not."""
    file = options.folder / file_of(title)
    if not file.exists():
        data = options.shared / run.get("data", "mnist")
        if not data.is_dir():
            print(f"skipped {title}: no folder {data}")
            return None
        partial = file.with_suffix(".part.h5")
        gradist.run(**run, data_dir=data, threads=options.threads, out=partial, overwrite=True)
        partial.rename(file)
    return gradist.open(file)


def names_within(group: h5py.Group) -> list[str]:
    """All groups and datasets in the order they were made, which is that of estimators and parameters; `visit` sorts them by name."""
    names: list[str] = []
    for name, each in group.items():
        names.append(name)
        if isinstance(each, h5py.Group):
            names += [f"{name}/{within}" for within in names_within(each)]
    return names


def copy_without_assignments(trace: Path, copy: Path) -> None:
    """All of a trace but the clusters of single examples and the folders of the run, with the axes of every dataset."""
    with h5py.File(trace) as old, h5py.File(copy, "w", track_order=True) as new:
        config = re.sub(r'^(data-dir|out) = ".*/(?=[^/]+"$)', r'\1 = "', str(old.attrs["config"]), flags=re.MULTILINE)
        new.attrs.update({**old.attrs, "config": config})
        kept = [name for name in names_within(old) if name.rsplit("/")[-1] not in ("assignments", "example")]
        for name in kept:
            if isinstance(old[name], h5py.Group):
                new.create_group(name, track_order=True)  # as the library's reader asks for
        datasets = [name for name in kept if isinstance(old[name], h5py.Dataset)]
        for name in datasets:
            made = new.create_dataset(name, data=old[name][()], compression="gzip" if old[name].ndim > 1 else None)
            if old[name].is_scale:
                made.make_scale(name.rsplit("/")[-1])
        for name in datasets:
            if not old[name].is_scale:
                for mine, theirs in zip(new[name].dims, old[name].dims, strict=True):
                    for scale in theirs.values():
                        mine.attach_scale(new[scale.name])


def keep(titles: dict[str, gradist.Trace], options: argparse.Namespace) -> None:
    options.keep.mkdir(parents=True, exist_ok=True)
    for title in titles:
        copy = options.keep / file_of(title)
        copy_without_assignments(options.folder / file_of(title), copy)
        copy.with_suffix(".html").write_text(report.html(gradist.open(copy)))
        print(copy)


def ratio(trace: gradist.Trace, estimator: str) -> np.ndarray:
    return np.asarray(trace[estimator].average_variance / trace["sg-b"].average_variance)


def by_steps_since(trace: gradist.Trace) -> tuple[np.ndarray, np.ndarray]:
    """Steps since the refresh, and the mean ratio of gc-descent over the refreshes but the first, of untrained gradients."""
    every = int(trace.config["refresh_every"])
    trained = trace.iterations >= every
    since = trace.iterations[trained] % every
    values = ratio(trace, "gc-descent")[trained]
    steps = np.unique(since)
    return steps, np.array([values[since == each].mean() for each in steps])


def plot_problem(axes: Axes, title: str, trace: gradist.Trace) -> None:
    for name in (each for each in trace.estimators if each not in ("sg-b", "sg-2b")):
        axes.plot(trace.iterations, ratio(trace, name), marker=".", markersize=3, color=color_of(name), label=name)
    axes.set_title(title, loc="left", fontsize=8)
    axes.set_xlabel("Iteration", fontsize=8)


def plot_staleness(axes: Axes, title: str, traces: dict[str, gradist.Trace]) -> None:
    for position, (name, trace) in enumerate(traces.items()):
        steps, values = by_steps_since(trace)
        axes.plot(steps, values, marker=".", markersize=3, color=f"C{position}", label=name)
        print(f"{title}, {name}: " + " ".join(f"{step}: {value:.3f}" for step, value in zip(steps, values, strict=True)))
    axes.set_title(title, loc="left", fontsize=8)
    axes.set_xlabel("Steps since the refresh", fontsize=8)


def finished(figure: Figure, panels: list[Axes], file: Path) -> None:
    for axes in panels:
        axes.axhline(0.5, color="#555555", linewidth=0.8, linestyle=":")
        axes.text(1, 0.5, "SG-2B", transform=axes.get_yaxis_transform(), ha="right", va="bottom", fontsize=7, color="#555555")
        axes.set_yscale("log")
        axes.set_yticks([0.05, 0.1, 0.2, 0.5, 1], ["0.05", "0.1", "0.2", "0.5", "1"])
        axes.minorticks_off()
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(fontsize=7, frameon=False, ncol=2, loc="upper right", borderaxespad=0)
    panels[0].set_ylabel("Average variance over that of SG-B", fontsize=8)
    figure.savefig(file, dpi=200)
    print(file)


def main() -> int:
    options = parse_options()
    options.folder.mkdir(parents=True, exist_ok=True)
    parts = options.part or list(RUNS)
    found = {part: {title: trace for title, run in RUNS[part].items() if (trace := trace_of(title, run, options))} for part in parts}
    if problems := found.get("problems"):
        figure = Figure(figsize=(2.4 * len(problems), 2.5), layout="constrained")
        panels = list(figure.subplots(1, len(problems), squeeze=False, sharey=True).flat)
        for axes, (title, trace) in zip(panels, problems.items(), strict=True):
            plot_problem(axes, title, trace)
            for name in trace.estimators:
                print(f"{title}, {name}: " + " ".join(f"{t}: {r:.3f}" for t, r in zip(trace.iterations, ratio(trace, name), strict=True)))
        finished(figure, panels, options.folder / "gc-between-refreshes.png")
        if options.keep:
            keep(problems, options)
    stale = {part: found[part] for part in ("examples", "labels") if found.get(part)}
    if stale:
        figure = Figure(figsize=(3.4 * len(stale), 2.6), layout="constrained")
        panels = list(figure.subplots(1, len(stale), squeeze=False, sharey=True).flat)
        titles = {"examples": "Training examples, K = 128", "labels": "Corrupted labels, N = 15,000"}
        for axes, (part, traces) in zip(panels, stale.items(), strict=True):
            plot_staleness(axes, titles[part], traces)
        finished(figure, panels, options.folder / "gc-examples-and-labels.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
