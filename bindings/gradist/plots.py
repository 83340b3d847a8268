"""The figures of a trace: each function takes a `gradist.Trace` and returns a matplotlib figure, ready for a paper.

Curves are a rolling mean over `window` log points, never across a refresh, with one standard deviation as a band, as in
[Faghri20] Fig. 3; the values themselves lie behind it as faint points. Every estimator has one colour everywhere, told apart by the colour-blind too.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogFormatterSciNotation, LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter
from numpy.typing import NDArray

from gradist.trace import Trace

__all__ = [
    "FIGURES",
    "average_variance",
    "available",
    "cluster_sizes",
    "cluster_variance",
    "coordinates",
    "drift",
    "layers",
    "losses",
    "make_figure",
    "metainit",
    "normalized_variance",
    "squared_norms",
    "variance_ratio",
    "variances",
]

Array = NDArray[Any]

# Okabe and Ito's palette; the two minibatches of plain SGD share a hue.
COLORS = {
    "sg-b": "#0072b2", "sg-2b": "#56b4e9", "svrg": "#d55e00", "gc": "#009e73", "gc-descent": "#cc79a7", "gc-importance": "#e69f00",
    "sg-importance": "#b8a900",
}  # fmt: skip
_OTHER_COLORS = ("#332288", "#882255", "#555555", "#999933")
_GRAY = "#555555"
_MAX_PANELS = 12
_MAX_BANDS = 10
_MAX_COORDINATES = 2000  # drawn, evenly spaced by rank
_MAX_WAYS = 8  # curves of different distance from a snapshot

_STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "lines.linewidth": 1.2,
    "lines.solid_capstyle": "round",
    "figure.dpi": 150,
    "savefig.dpi": 300,
    "pdf.fonttype": 42,  # text stays text in the PDF
    "svg.fonttype": "none",
    "svg.hashsalt": "gradist",
}


class TraceFigure(Figure):
    """A matplotlib figure that notebooks show without `pyplot`, and that keeps the style when it is drawn or saved."""

    def savefig(self, *args: Any, **options: Any) -> None:
        with mpl.rc_context(_STYLE):
            super().savefig(*args, **options)

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=150)
        return buffer.getvalue()


# ---- figures


def variances(trace: Trace, *, width: float = 6.5, window: int | None = None) -> Figure:
    """Average and normalized variance of all estimators, side by side."""
    return _estimator_panels(trace, ("average_variance", "normalized_variance"), width, 2.6, window)


def average_variance(trace: Trace, *, width: float = 3.4, window: int | None = None) -> Figure:
    """tr Cov[estimate] / P of every estimator."""
    return _estimator_panels(trace, ("average_variance",), width, 2.6, window)


def normalized_variance(trace: Trace, *, width: float = 3.4, window: int | None = None) -> Figure:
    """Mean over coordinates of Var[estimate] / E[estimate^2] of every estimator."""
    return _estimator_panels(trace, ("normalized_variance",), width, 2.6, window)


def losses(trace: Trace, *, width: float = 6.5) -> Figure:
    """Loss and accuracy on the training and the test set."""
    series = trace.trajectory
    quantities = [name for name in ("loss", "accuracy") if _any_finite(series, f"train_{name}", f"test_{name}")]
    figure, panels = _panels(len(quantities), width, 2.2)
    for axes, quantity in zip(panels, quantities, strict=True):
        for part, color, style in (("train", "black", "-"), ("test", "#d55e00", "--")):
            if _any_finite(series, f"{part}_{quantity}"):
                axes.plot(trace.iterations, series[f"{part}_{quantity}"], style, color=color, label=part)
        if quantity == "loss":
            _log_scale(axes, [series[name] for name in ("train_loss", "test_loss") if name in series])
        _label(axes, quantity.capitalize())
        axes.legend()
    return figure


def layers(trace: Trace, *, width: float = 6.5, window: int | None = None) -> Figure:
    """Average variance of every parameter of the model, one panel each; the first twelve where there are more."""
    values = {name: trace[name].layers for name in trace.estimators}
    shown = trace.layers[:_MAX_PANELS]
    columns = 2 if len(shown) <= 4 else 3
    figure, panels = _panels(len(shown), width, 1.7, columns=columns, share_y=False)
    for axes, layer in zip(panels, shown, strict=True):
        curves = {name: values[name][layer] for name in trace.estimators if layer in values[name]}
        _curves(axes, trace, curves, window)
        axes.set_title(layer, loc="left")
    _common_labels(figure, panels, columns, "Average variance")
    if len(trace.layers) > len(shown):
        figure.supxlabel(f"{len(shown)} of {len(trace.layers)} parameters", fontsize=8)  # the legend has the top
    _estimator_legend(figure, trace.estimators)
    return figure


def cluster_sizes(trace: Trace, *, width: float = 6.5) -> Figure:
    """Sizes of the clusters after each refresh, the largest first, and their spread over the run: a row for each estimator that draws
    from clusters."""
    sizes = _cluster_sizes(trace)
    figure, rows = _titled_rows(sizes, width, 2.4)
    for (name, refresh), (ranks, spread) in zip(sizes.items(), rows, strict=True):
        ranked = -np.sort(-refresh["sizes"].astype(float), axis=1)
        _ranked_sizes(ranks, ranked, refresh["iteration"])
        _spread_over_refreshes(spread, ranked, refresh["iteration"], color_of(name, list(sizes)))
    return figure


def cluster_variance(trace: Trace, *, width: float = 6.5) -> Figure:
    """Where the variance within clusters is, a row for each estimator that draws from clusters: its share by cluster, smallest cluster
    first, beside the share of the examples, at the last refresh; and its share by parameter of the model, after each refresh."""
    scatter = _cluster_scatter(trace)
    figure, rows = _titled_rows(scatter, width, 2.4)
    for refresh, (by_cluster, by_parameter) in zip(scatter.values(), rows, strict=True):
        order = np.argsort(refresh["sizes"][-1], kind="stable")
        _share_by_cluster(by_cluster, refresh["scatter"][-1][order], refresh["sizes"][-1][order].astype(float))
        by_cluster.set_title(f"Refresh at {refresh['iteration'][-1]:,}", loc="left")
        _share_by_parameter(by_parameter, trace.layers, refresh["parameter_scatter"], refresh["iteration"])
    return figure


def squared_norms(trace: Trace, *, width: float = 6.5) -> Figure:
    """Quantiles of the squared norms of single-example gradients, and the share that the largest 1 % carry."""
    gradients = trace.gradients
    with_share = _any_finite(gradients, "top_percent_share")
    figure, panels = _panels(2 if with_share else 1, width, 2.4)
    _quantile_fan(panels[0], trace.iterations, gradients.squared_norm_quantiles)
    if with_share:
        axes = panels[1]
        axes.plot(trace.iterations, 100 * gradients.top_percent_share, color="black")
        axes.axhline(50, color=_GRAY, linewidth=0.6, linestyle=":")
        axes.set_ylim(0, 100)
        _label(axes, "Share of the largest 1 % (%)")
    return figure


def variance_ratio(trace: Trace, *, width: float = 4.5) -> Figure:
    """Variance of an estimator with a snapshot over that of plain minibatches, each way from the snapshot a curve: [Defazio19]
    Fig. 2. Shaded: worse than plain SGD. Above the line at 1/3 the three gradients of a step are better spent on a larger batch.
    """
    name = next(name for name in trace.estimators if _any_finite(trace[name], "variance_ratio"))
    series, epochs = trace[name], trace.trajectory.epoch
    figure, (axes,) = _panels(1, width, 2.8)
    since = trace.iterations % trace.config["refresh_every"]
    ways = _ways_from_snapshot(trace)
    for (way, label), shade in zip(ways, mpl.colormaps["viridis"](np.linspace(0, 0.9, len(ways))), strict=True):
        there = (since == way) & np.isfinite(series.variance_ratio)
        axes.plot(epochs[there], series.variance_ratio[there], ".-", color=shade, markersize=3, label=label)
        if "variance_ratio_low" in series:
            axes.vlines(
                epochs[there], series.variance_ratio_low[there], series.variance_ratio_high[there], color=shade, linewidth=0.5
            )
    highest = series.variance_ratio_high if "variance_ratio_high" in series else series.variance_ratio
    top = max(1.2, 1.05 * float(np.nanmax(np.fmax(series.variance_ratio, highest))))
    axes.axhspan(1, top, color=_GRAY, alpha=0.12, linewidth=0)
    axes.axhline(1 / 3, color=_GRAY, linewidth=0.8, linestyle="--")
    axes.annotate("1/3", (1, 1 / 3), xycoords=axes.get_yaxis_transform(), color=_GRAY, fontsize=7, va="bottom", ha="right")
    per_epoch = _iterations_per_epoch(trace)
    for drop in trace.config.get("lr_drop", []):
        axes.axvline(drop / per_epoch, color=_GRAY, linewidth=0.8, linestyle=":")
    if top > 2:  # else all that matters, 1/3 and 1, would lie at the bottom
        axes.set_yscale("symlog", linthresh=0.1, linscale=0.5)
        ticks = [first * 10.0**decade for decade in range(-1, math.ceil(math.log10(top))) for first in ((1, 2, 5) if top < 50 else (1,))]
        axes.set_yticks([0, *(tick for tick in ticks if tick < top)])
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.set_ylim(0, top)
    _label(axes, f"{name.upper()} / SGD variance", x_label="Epoch")
    figure.legend(loc="outside right upper", title="after the\nsnapshot", title_fontsize=7)
    return figure


def coordinates(trace: Trace, *, width: float = 6.5, iteration: int | None = None) -> Figure:
    """Mean, deviation and variance of each coordinate of the estimates, by the variance of the first estimator, at the log point nearest to
    `iteration`, or the last one that is not at a snapshot. For a linear model a coordinate is a feature: as in the design of MXNet's SVRG
    module.
    """
    away = np.flatnonzero(np.all([trace[name].average_variance > 0 for name in trace.estimators], axis=0))
    wanted = trace.iterations[away[-1] if len(away) else -1] if iteration is None else iteration
    point = int(np.argmin(np.abs(trace.iterations - wanted)))
    variances = {name: _flat(trace[name].coordinate_variance, point) for name in trace.estimators}
    order = np.argsort(-variances[trace.estimators[0]], kind="stable")
    ranks = np.unique(np.linspace(0, len(order) - 1, min(len(order), _MAX_COORDINATES)).round().astype(int))
    mean = _flat(trace.full_gradient, point)[order[ranks]]
    figure, (left, right) = _panels(2, width, 2.4)
    for name in sorted(variances, key=lambda name: -variances[name].sum()):
        variance = variances[name][order[ranks]]
        color, deviation = color_of(name, trace.estimators), np.sqrt(variance)
        left.fill_between(ranks + 1, mean - deviation, mean + deviation, color=color, alpha=0.5, linewidth=0)
        right.plot(ranks + 1, np.where(variance > 0, variance, np.nan), color=color, linewidth=0.8)
    left.plot(ranks + 1, mean, color="black", linewidth=0.8)
    _log_scale(right, variances.values())
    x_label = f"Coordinate, by the variance of {trace.estimators[0].upper()}"
    _label(left, "Mean and one deviation", x_label)
    _label(right, "Variance", x_label)
    _estimator_legend(figure, trace.estimators)
    return figure


def drift(trace: Trace, *, width: float = 6.5) -> Figure:
    """Distance from the snapshot and curvature along it, iteration by iteration, each followed interval a curve: [Defazio19] Fig. 3.
    Points are the curvature of the full gradient, at the log points."""
    series = trace.drift
    every = trace.config["refresh_every"]
    intervals = (series.iteration - series.since_snapshot) // every
    figure, panels = _panels(2, width, 2.4)
    names = np.unique(intervals)
    shades = mpl.colormaps["viridis"](np.linspace(0, 0.9, len(names)))
    for quantity, axes in zip(("distance", "curvature"), panels, strict=True):
        for interval, shade in zip(names, shades, strict=True):
            there = intervals == interval
            axes.plot(series.since_snapshot[there], series[quantity][there], color=shade, label=str(interval))
        _label(axes, quantity.capitalize(), x_label="Iterations after the snapshot")
        axes.set_ylim(bottom=0)
    if len(names) <= _MAX_WAYS:
        panels[0].legend(title="refresh", title_fontsize=7)
    if _any_finite(trace.trajectory, "snapshot_curvature"):
        for interval, shade in zip(names, shades, strict=True):
            there = trace.iterations // every == interval
            panels[1].plot(trace.iterations[there] % every, trace.trajectory.snapshot_curvature[there], "o", color=shade, markersize=3)
        whole = "all examples" if trace.config.get("measure", "exact") == "exact" else "estimate for all examples"
        panels[1].legend(handles=[
            Line2D([], [], color=_GRAY, label="a minibatch"),
            Line2D([], [], color=_GRAY, marker="o", markersize=3, linestyle="", label=whole),
        ])  # fmt: skip
    return figure


def metainit(trace: Trace, *, width: float = 3.25) -> Figure:
    """The gradient quotient that MetaInit lowers, step by step, before the first step of training."""
    series = trace.metainit
    assert series is not None
    figure, (axes,) = _panels(1, width, 2.4)
    axes.plot(series.step, series.quotient, color=COLORS["sg-b"])
    _log_scale(axes, [series.quotient])
    _label(axes, "Gradient quotient", x_label="MetaInit step")
    return figure


FIGURES: dict[str, Callable[..., Figure]] = {
    "variances": variances,
    "average-variance": average_variance,
    "normalized-variance": normalized_variance,
    "losses": losses,
    "layers": layers,
    "cluster-sizes": cluster_sizes,
    "cluster-variance": cluster_variance,
    "squared-norms": squared_norms,
    "variance-ratio": variance_ratio,
    "coordinates": coordinates,
    "drift": drift,
    "metainit": metainit,
}


def available(trace: Trace) -> list[str]:
    """The figures for which the trace has values."""
    with_values = {
        "losses": _any_finite(trace.trajectory, "train_loss", "test_loss", "train_accuracy", "test_accuracy"),
        "layers": bool(trace.layers),
        "cluster-sizes": bool(_cluster_sizes(trace)),
        "cluster-variance": bool(trace.layers) and bool(_cluster_scatter(trace)),
        "squared-norms": _any_finite(trace.gradients, "squared_norm_quantiles"),
        "variance-ratio": any(_any_finite(trace[name], "variance_ratio") for name in trace.estimators),
        "coordinates": trace.config.get("per_coordinate", False) and len(trace.iterations) > 0,
        "drift": _any_finite(trace.drift, "distance"),
        "metainit": trace.metainit is not None and _any_finite(trace.metainit, "quotient"),
    }
    for quantity in ("average_variance", "normalized_variance"):
        with_values[quantity.replace("_", "-")] = any(_any_finite(trace[name], quantity) for name in trace.estimators)
    with_values["variances"] = with_values["average-variance"] and with_values["normalized-variance"]
    return [name for name in FIGURES if with_values[name]]


def make_figure(name: str, trace: Trace, **options: Any) -> Figure:
    """A figure by its name."""
    if name not in FIGURES:
        raise ValueError(f"figure = {name!r}, must be one of {', '.join(FIGURES)}")
    if name not in available(trace):
        raise ValueError(f"{trace.path} has no values for figure {name!r}; it has those for {', '.join(available(trace))}")
    with mpl.rc_context(_STYLE):
        return FIGURES[name](trace, **options)


def color_of(estimator: str, others: Sequence[str] = ()) -> str:
    """The estimator's colour: its own, or the next free one for names that are not known here."""
    unknown = [name for name in others if name not in COLORS] or [estimator]
    return COLORS.get(estimator) or _OTHER_COLORS[unknown.index(estimator) % len(_OTHER_COLORS)]


def rolling(values: Array, window: int) -> tuple[Array, Array]:
    """Mean and standard deviation over `window` neighbours, fewer at both ends; NaN entries are left out."""
    padded = np.pad(values.astype(float), (window // 2, (window - 1) // 2), constant_values=np.nan)
    neighbours = np.ma.masked_invalid(np.lib.stride_tricks.sliding_window_view(padded, window))
    return neighbours.mean(axis=1).filled(np.nan), neighbours.std(axis=1).filled(np.nan)


def rolling_between(values: Array, window: int, starts: Array) -> tuple[Array, Array]:
    """`rolling` within the stretches that begin at the positions `starts`: a refresh is a jump, not noise."""
    parts = [rolling(part, window) for part in np.split(values, starts[(starts > 0) & (starts < len(values))])]
    mean, deviation = (np.concatenate(each) for each in zip(*parts, strict=True))
    return np.where(np.isfinite(values), mean, np.nan), deviation


def default_window(points: int) -> int:
    """Wide enough to calm the curves, narrow beside the run: 1/20 of the log points, odd; 1 for a handful."""
    return 2 * (points // 40) + 1 if points >= 40 else 3 if points >= 10 else 1


# ---- parts of figures


_LABELS = {"average_variance": "Average variance", "normalized_variance": "Normalized variance"}


def _estimator_panels(trace: Trace, quantities: Sequence[str], width: float, height: float, window: int | None) -> Figure:
    figure, panels = _panels(len(quantities), width, height)
    for axes, quantity in zip(panels, quantities, strict=True):
        curves = {name: trace[name][quantity] for name in trace.estimators if _any_finite(trace[name], quantity)}
        _curves(axes, trace, curves, window)
        _intervals(axes, trace, quantity)
        _label(axes, _LABELS[quantity])
    _estimator_legend(figure, trace.estimators)
    return figure


def _curves(axes: Axes, trace: Trace, curves: dict[str, Array], window: int | None) -> None:
    iterations = trace.iterations
    window = window or default_window(len(iterations))
    for name, values in curves.items():
        color = color_of(name, list(curves))
        positive = np.where(values > 0, values, np.nan)  # what a log axis can show
        if not np.isfinite(positive).any():
            continue
        if window == 1:
            axes.plot(iterations, positive, color=color, marker="o" if len(iterations) == 1 else None, markersize=2)
            continue
        starts = np.searchsorted(iterations, trace.refreshes[name].iteration) if name in trace.refreshes else np.array([], int)
        mean, deviation = rolling_between(positive, window, starts)
        axes.plot(iterations, positive, ".", color=color, markersize=2, alpha=0.25, markeredgewidth=0, rasterized=True)
        lowest = np.nanmin(positive)
        axes.fill_between(
            iterations, np.maximum(mean - deviation, lowest), mean + deviation, color=color, alpha=0.2, linewidth=0
        )
        axes.plot(iterations, mean, color=color)
    _log_scale(axes, list(curves.values()))


def _intervals(axes: Axes, trace: Trace, quantity: str) -> None:
    """The 95 % intervals of a measurement by subset or sampling, as thin bars."""
    if quantity != "average_variance":
        return
    for name in trace.estimators:
        series = trace[name]
        if _any_finite(series, "ci_low"):
            axes.vlines(
                trace.iterations, series.ci_low, series.ci_high, color=color_of(name, trace.estimators), alpha=0.2, linewidth=0.6
            )


def _ranked_sizes(axes: Axes, ranked: Array, iterations: Array) -> None:
    shades = mpl.colormaps["viridis"](np.linspace(0, 0.9, len(ranked)))
    ranks = np.arange(1, ranked.shape[1] + 1)
    for sizes, shade in zip(ranked, shades, strict=True):
        axes.step(ranks, np.where(sizes > 0, sizes, np.nan), where="mid", color=shade, linewidth=0.9)
    ends = [(0, "first"), (len(ranked) - 1, "last")][: len(ranked)]
    handles = [Line2D([], [], color=shades[i], label=f"{word} refresh ({iterations[i]:,})") for i, word in ends]
    _legend_above(axes, handles)
    _log_scale(axes, [ranked])
    _label(axes, "Examples", x_label="Cluster, largest first")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _spread_over_refreshes(axes: Axes, ranked: Array, iterations: Array, color: str) -> None:
    _bands(axes, iterations, np.quantile(ranked, (0, 0.1, 0.25, 0.5, 0.75, 0.9, 1), axis=1).T, color)
    axes.axhline(ranked.mean(), color=_GRAY, linewidth=0.6, linestyle=":")
    _log_scale(axes, [ranked])
    _label(axes, "Examples in a cluster")
    _band_legend(axes, color, ("smallest to largest", "10 to 90 %", "25 to 75 %", "median"))


def _share_by_cluster(axes: Axes, scatter: Array, sizes: Array) -> None:
    ranks = np.arange(1, len(sizes) + 1)
    axes.bar(ranks, _percent(scatter), width=0.9, color="#d55e00", label="of the variance")
    axes.step(ranks, _percent(sizes), where="mid", color=_GRAY, linewidth=0.9, label="of the examples")
    _label(axes, "Share (%)", x_label="Cluster, smallest first")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend()


def _share_by_parameter(axes: Axes, names: Sequence[str], scatter: Array, iterations: Array) -> None:
    """Stacked bands over the refreshes; beyond the largest ones parameters are put together."""
    shares = _percent(scatter, axis=1)
    largest = np.sort(np.argsort(-shares.mean(axis=0), kind="stable")[: _MAX_BANDS - 1 if len(names) > _MAX_BANDS else len(names)])
    bands = [(names[index], shares[:, index]) for index in largest]
    if len(bands) < len(names):
        bands.append((f"{len(names) - len(bands)} others", 100 - shares[:, largest].sum(axis=1)))
    shades = mpl.colormaps["viridis"](np.linspace(0, 0.95, len(bands)))
    base = np.zeros(len(iterations))
    for (name, share), shade in zip(bands, shades, strict=True):
        if len(iterations) == 1:
            axes.bar(iterations, share, bottom=base, width=1, color=shade, label=name)
        else:
            axes.fill_between(iterations, base, base + share, color=shade, linewidth=0, label=name)
        base = base + share
    axes.set_ylim(0, 100)
    _label(axes, "Share of the variance (%)")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), reverse=True, handlelength=1)


def _percent(parts: Array, axis: int = 0) -> Array:
    """Of their sum; zeros where that is zero."""
    total = parts.sum(axis=axis, keepdims=True)
    percent: Array = np.zeros(parts.shape)
    np.divide(100 * parts, total, out=percent, where=total > 0)
    return percent


def _quantile_fan(axes: Axes, iterations: Array, quantiles: Array) -> None:
    levels = np.linspace(0, 1, quantiles.shape[1])
    chosen = [int(np.abs(levels - level).argmin()) for level in (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)]
    positive = np.where(quantiles > 0, quantiles, np.nan)
    _bands(axes, iterations, positive[:, chosen], "#0072b2")
    axes.plot(iterations, positive[:, -1], color=_GRAY, linewidth=0.8, linestyle="--")
    _log_scale(axes, [positive[:, chosen[0] :]])
    _label(axes, r"Squared norm $\|g_i\|^2$")
    _band_legend(axes, "#0072b2", ("5 to 95 %", "10 to 90 %", "25 to 75 %", "median"), maximum="largest")


def _bands(axes: Axes, x: Array, edges: Array, color: str) -> None:
    """Three nested bands and the line in their middle: edges [T, 7]."""
    one_point = len(x) == 1
    for depth, alpha in enumerate((0.12, 0.18, 0.3)):
        low, high = edges[:, depth], edges[:, -1 - depth]
        if one_point:
            axes.vlines(x, low, high, color=color, alpha=alpha, linewidth=6)
        else:
            axes.fill_between(x, low, high, color=color, alpha=alpha, linewidth=0)
    axes.plot(x, edges[:, edges.shape[1] // 2], color=color, marker="o" if one_point else None)


def _band_legend(axes: Axes, color: str, labels: Sequence[str], maximum: str | None = None) -> None:
    opacities = (0.12, 0.27, 0.49)  # nested bands lie over each other
    handles: list[Any] = [Line2D([], [], color=_GRAY, linewidth=0.8, linestyle="--", label=maximum)] if maximum else []
    handles += [
        Patch(color=color, alpha=alpha, linewidth=0, label=label)
        for alpha, label in zip(opacities, labels, strict=False)
    ]
    handles.append(Line2D([], [], color=color, label=labels[-1]))
    _legend_above(axes, handles)


def _legend_above(axes: Axes, handles: list[Any]) -> None:
    axes.legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1), ncols=2, handlelength=1.2, columnspacing=1)


def _panels(
    count: int, width: float, height: float, columns: int | None = None, share_y: bool = False
) -> tuple[TraceFigure, list[Axes]]:
    columns = columns or count
    rows = math.ceil(count / columns)
    figure = TraceFigure(figsize=(width, height * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=False, sharey=share_y)
    panels: list[Axes] = list(grid.flat)
    for spare in panels[count:]:
        spare.remove()
    return figure, panels[:count]


def _titled_rows(names: Iterable[str], width: float, height: float) -> tuple[TraceFigure, list[tuple[Axes, Axes]]]:
    """A row of two panels for each estimator, its name above it."""
    estimators = list(names)
    figure = TraceFigure(figsize=(width, height * len(estimators)), layout="constrained")
    rows = []
    for part, name in zip(figure.subfigures(len(estimators), squeeze=False).flat, estimators, strict=True):
        part.suptitle(name.upper(), fontsize=8, fontweight="bold")
        left, right = part.subplots(1, 2)
        rows.append((left, right))
    return figure, rows


def _label(axes: Axes, y_label: str, x_label: str = "Iteration") -> None:
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.margins(x=0.01)
    if x_label == "Iteration":
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))


def _common_labels(figure: Figure, panels: Sequence[Axes], columns: int, y_label: str) -> None:
    for index, axes in enumerate(panels):
        _label(axes, y_label if index % columns == 0 else "", "Iteration")
        if index + columns < len(panels):
            axes.set_xlabel("")


def _log_scale(axes: Axes, values: Iterable[Array]) -> None:
    """A log axis where there is something positive to show; labels at decades, or between them when there are fewer than two."""
    seen = np.concatenate([np.ravel(each) for each in values])
    seen = seen[np.isfinite(seen) & (seen > 0)]
    if len(seen) == 0:
        return
    axes.set_yscale("log")
    axes.yaxis.set_minor_formatter(NullFormatter())
    decades = np.floor(np.log10(seen.max())) - np.ceil(np.log10(seen.min())) + 1
    if decades < 2:
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5, 7) if seen.max() / seen.min() < 10 else (1, 2, 5)))
        if seen.max() < 1e-3:
            axes.yaxis.set_major_formatter(LogFormatterSciNotation(minor_thresholds=(np.inf, np.inf)))
        else:
            axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))


def _estimator_legend(figure: Figure, estimators: Sequence[str], marks: Sequence[str] = ("",)) -> None:
    handles = [
        Line2D([], [], color=color_of(name, estimators), marker=marks[i % len(marks)], markersize=2.5, label=name.upper())
        for i, name in enumerate(estimators)
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=max(1, len(handles)), handlelength=1.4)


def _any_finite(series: Any, *names: str) -> bool:
    return any(name in series and bool(np.isfinite(series[name]).any()) for name in names)


def _ways_from_snapshot(trace: Trace) -> list[tuple[int, str]]:
    """Iterations since a refresh at which the trace has log points, and what part of the way to the next they are."""
    interval = trace.config["refresh_every"]
    chosen = sorted(trace.config.get("log_at", []))
    if chosen:
        return [(min(int(part * interval), interval - 1), f"{100 * part:g} %") for part in chosen]
    ways = np.unique(trace.iterations % interval)
    few = ways if len(ways) <= _MAX_WAYS else ways[np.linspace(0, len(ways) - 1, _MAX_WAYS).astype(int)]
    return [(int(way), f"{100 * way / interval:.0f} %") for way in few]


def _iterations_per_epoch(trace: Trace) -> float:
    last = trace.trajectory.epoch.argmax()
    epoch = float(trace.trajectory.epoch[last])
    return float(trace.iterations[last]) / epoch if epoch > 0 else 1.0


def _flat(arrays: dict[str, Array], point: int) -> Array:
    """The coordinates of all parameters at a log point, [P]."""
    return np.concatenate([each[point].ravel() for each in arrays.values()])


def _cluster_sizes(trace: Trace) -> dict[str, Any]:
    found = trace.refreshes.items()
    return {name: refresh for name, refresh in found if "sizes" in refresh and refresh["sizes"].size > 0}


def _cluster_scatter(trace: Trace) -> dict[str, Any]:
    return {name: refresh for name, refresh in _cluster_sizes(trace).items() if "parameter_scatter" in refresh}
