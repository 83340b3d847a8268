"""The figures of a Random Features sweep, after [Faghri20] Figs. 4, 5, 8 and 9: each function takes a `gradist.rf.Sweep`
and returns a matplotlib figure.

The abscissa is the overparametrization h_student / N. A point is the mean over the axes that the figure does not show
(seeds, input dimensions, teachers, ...), its bar one standard deviation; both of the logarithm where the ordinate is
logarithmic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullFormatter, StrMethodFormatter
from numpy.typing import NDArray

from gradist.plots import _GRAY, _STYLE, _estimator_legend, _label, _log_scale, _panels, color_of

if TYPE_CHECKING:
    import xarray

    from gradist.rf import Sweep

__all__ = ["FIGURES", "average_variance", "duplicates", "errors", "make_figure", "normalized_variance"]

Array = NDArray[Any]

_DUPLICATES_LR = 0.01
_MARKS = "osDv^<>P"


def average_variance(sweep: Sweep, *, statistic: str = "max", width: float = 7.0) -> Figure:
    """Average variance: SG-B by learning rate and teacher, then all estimators at each learning rate. [Faghri20] Fig. 4,
    and Fig. 9 for `statistic="mean"`."""
    return _by_learning_rate(sweep, f"{_checked(statistic)}_average_variance", "average variance", width, log=True)


def normalized_variance(sweep: Sweep, *, statistic: str = "max", width: float = 7.0) -> Figure:
    """Normalized variance in the same panels. [Faghri20] Fig. 5. The dotted line is at 1/2, where the noise has as much
    power as the signal (at 1 for sweeps by the paper's protocol)."""
    figure = _by_learning_rate(sweep, f"{_checked(statistic)}_normalized_variance", "normalized variance", width, log=False)
    for axes in figure.axes:
        axes.axhline(1.0 if sweep.config["protocol"] == "faghri" else 0.5, color=_GRAY, linewidth=0.6, linestyle=":")
    return figure


def duplicates(sweep: Sweep, *, statistic: str = "max", lr: float | None = None, width: float = 7.0) -> Figure:
    """Average variance of all estimators, a panel for each fraction of duplicates, at one learning rate (0.01 where the
    sweep has it). [Faghri20] Fig. 8."""
    data = _data(sweep)
    rates = data.lr.values
    chosen = lr if lr is not None else _DUPLICATES_LR if _DUPLICATES_LR in rates else float(rates[0])
    if chosen not in rates:
        raise ValueError(f"lr = {chosen}, must be one of {', '.join(f'{rate:g}' for rate in rates)}")
    values = data[f"{_checked(statistic)}_average_variance"].sel(lr=chosen)
    fractions = data.duplicates.values
    figure, panels = _panels(len(fractions), width, 2.7, columns=min(len(fractions), 4), share_y=True)
    for axes, fraction in zip(panels, fractions, strict=True):
        _estimator_lines(axes, values.sel(duplicates=fraction), log=True)
        axes.set_title(f"{fraction:.0%} duplicates" if fraction else "no duplicates", loc="left")
    _finish(panels, [values.values], f"{statistic.capitalize()} average variance", log=True)
    _estimator_legend(figure, sweep.estimators, _MARKS)
    return figure


def errors(sweep: Sweep, *, width: float = 7.0) -> Figure:
    """Training and test error at the end, a panel for each learning rate: the double descent."""
    data = _data(sweep)
    figure, panels = _panels(len(data.lr), width, 2.4, columns=min(len(data.lr), 4), share_y=True)
    for axes, lr in zip(panels, data.lr.values, strict=True):
        for part, color, style in (("train", "black", "-"), ("test", "#d55e00", "--")):
            last = data[f"{part}_error"].sel(lr=lr).isel(iteration=-1)
            _line(axes, last, log=False, color=color, linestyle=style, label=part)
        axes.set_title(f"learning rate {lr:g}", loc="left")
    _finish(panels, [], "Error", log=False)
    panels[0].legend()
    return figure


FIGURES: dict[str, Callable[..., Figure]] = {
    "average-variance": average_variance,
    "normalized-variance": normalized_variance,
    "duplicates": duplicates,
    "errors": errors,
}


def make_figure(name: str, sweep: Sweep, **options: Any) -> Figure:
    """A figure by its name."""
    if name not in FIGURES:
        raise ValueError(f"figure = {name!r}, must be one of {', '.join(FIGURES)}")
    if sweep.complete == 0:
        raise ValueError(f"{sweep.path} has no complete model yet")
    with mpl.rc_context(_STYLE):
        return FIGURES[name](sweep, **options)


# ---- parts of figures


def _checked(statistic: str) -> str:
    if statistic not in ("max", "mean"):
        raise ValueError(f"statistic = {statistic!r}, must be max or mean")
    return statistic


def _data(sweep: Sweep) -> xarray.Dataset:
    """The sweep with the overparametrization in place of the number of examples and the student's width."""
    data = sweep.to_xarray().stack(point=("n", "h_student"))
    ratio = data.h_student.values / data.n.values
    return data.assign_coords(overparametrization=("point", ratio)).sortby("overparametrization")


def _by_learning_rate(sweep: Sweep, quantity: str, label: str, width: float, *, log: bool) -> Figure:
    data = _data(sweep)
    values = data[quantity]
    rates = data.lr.values
    figure, panels = _panels(len(rates) + 1, width, 2.7, columns=min(len(rates) + 1, 4), share_y=True)
    _rate_lines(panels[0], values.isel(estimator=0), log=log)
    panels[0].set_title(sweep.estimators[0].upper(), loc="left")
    for axes, lr in zip(panels[1:], rates, strict=True):
        _estimator_lines(axes, values.sel(lr=lr), log=log)
        axes.set_title(f"learning rate {lr:g}", loc="left")
    statistic = quantity.split("_")[0].capitalize()
    _finish(panels, [values.values] if log else [], f"{statistic} {label}", log=log)
    _estimator_legend(figure, sweep.estimators, _MARKS)
    return figure


def _rate_lines(axes: Axes, values: xarray.DataArray, *, log: bool) -> None:
    """A colour for each learning rate, a style of line for each teacher."""
    rates, teachers = values.lr.values, values.h_teacher.values
    shades = mpl.colormaps["viridis"](np.linspace(0, 0.85, len(rates)))
    styles = ["-", "--", ":", "-."]
    for lr, shade in zip(rates, shades, strict=True):
        for teacher, style in zip(teachers, styles * len(teachers), strict=False):
            _line(axes, values.sel(lr=lr, h_teacher=teacher), log=log, color=shade, linestyle=style)
    handles = [Line2D([], [], color=shade, label=f"lr {lr:g}") for lr, shade in zip(rates, shades, strict=True)]
    if len(teachers) > 1:
        handles += [
            Line2D([], [], color=_GRAY, linestyle=style, label=f"teacher {teacher:,}")  # type: ignore[arg-type]
            for teacher, style in zip(teachers, styles * len(teachers), strict=False)
        ]
    axes.legend(handles=handles, handlelength=1.8)


def _estimator_lines(axes: Axes, values: xarray.DataArray, *, log: bool) -> None:
    names = [str(name) for name in values.estimator.values]
    for index, name in enumerate(names):
        line = values.isel(estimator=index)
        _line(axes, line, log=log, color=color_of(name, names), marker=_MARKS[index % len(_MARKS)], markersize=2.5)


def _line(axes: Axes, values: xarray.DataArray, *, log: bool, **style: Any) -> None:
    """Mean and standard deviation over all axes but the overparametrization; points with the same one count as one."""
    table = values.transpose("point", ...).values.reshape(values.sizes["point"], -1)
    ratios, places = np.unique(values.overparametrization.values, return_inverse=True)
    rows = [np.concatenate([table[i] for i in np.flatnonzero(places == r)]) for r in range(len(ratios))]
    centers, low, high = np.array([_mean_and_bar(row, log=log) for row in rows]).T
    shown = np.isfinite(centers)
    bars = (centers - low, high - centers)
    axes.errorbar(
        ratios[shown], centers[shown], [bar[shown] for bar in bars], elinewidth=0.7, capsize=1.5, capthick=0.7, **style
    )


def _mean_and_bar(values: Array, *, log: bool) -> tuple[float, float, float]:
    """Mean and one standard deviation to either side, of the logarithm if asked; NaN where there is nothing to show."""
    kept = values[np.isfinite(values) & ((values > 0) if log else np.isfinite(values))]
    if len(kept) == 0:
        return np.nan, np.nan, np.nan
    scaled = np.log(kept) if log else kept
    mean, deviation = scaled.mean(), scaled.std()
    ends = np.array([mean, mean - deviation, mean + deviation])
    center, low, high = np.exp(ends) if log else ends
    return float(center), float(low), float(high)


def _finish(panels: Sequence[Axes], values: Iterable[Array], label: str, *, log: bool) -> None:
    for index, axes in enumerate(panels):
        axes.set_xscale("log")
        _label(axes, label if index == 0 else "", r"Overparametrization $h_s/N$")
        low, high = axes.get_xlim()
        ticks = [tick for decade in (0.01, 0.1, 1, 10, 100) for tick in (decade, 3 * decade) if low <= tick <= high]
        axes.xaxis.set_major_locator(FixedLocator(ticks))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        if log:
            _log_scale(axes, values)
        else:
            axes.set_ylim(0, None)

