"""`gradist report`: a trace as one HTML file with its figures inside, or the figures as files."""

from __future__ import annotations

import argparse
import base64
import io
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from gradist import plots
from gradist.trace import Trace
from gradist.trace import open as open_trace

__all__ = ["figure_files", "html", "main", "summary", "warnings"]

# Above this share of the squared norm in 1 % of the examples, intervals that assume a normal law cover too little.
_HEAVY_SHARE = 0.5

# Figures of the report in their order, with what each shows.
_CAPTIONS = {
    "average-variance": "Average variance, tr Cov / P, of one estimate at its own batch size: rolling mean over {window} log "
    "points between refreshes with one standard deviation, the values as points. Zero, as SVRG has at a refresh, is a gap.",
    "normalized-variance": "Normalized variance: mean over coordinates of Var / E[estimate²]. Above 1/2 noise exceeds signal.",
    "losses": "Loss and accuracy.",
    "layers": "Average variance of each parameter.",
    "cluster-sizes": "Sizes of the clusters after each refresh; the dotted line is N / K.",
    "cluster-variance": "Where the variance within clusters is: by cluster, with the share of the examples, and by parameter.",
    "squared-norms": "Squared norms of the gradients of single examples, and the share of their sum that the largest 1 % carry.",
    "variance-ratio": "Variance of an estimate with a snapshot over that of a plain minibatch, by how far the run is on its way to "
    "the next snapshot. Shaded: worse than plain SGD. Only below the dashed line at 1/3 is it worth the gradients it costs; "
    "dotted: the learning rate drops.",
    "coordinates": "Each coordinate of the estimates at the last log point that is not at a snapshot: mean with one deviation to either side, and variance.",
    "drift": "Distance from the last snapshot, and how fast the gradients of a minibatch change along it; points: the full gradient.",
    "metainit": "The gradient quotient that MetaInit lowers by the norms of the initial weights, before training, each step on new noise.",
}


@dataclass(frozen=True)
class SummaryRow:
    """One estimator in the summary table; ratios are of average variances."""

    estimator: str
    color: str
    final_variance: float
    final_ratio: float
    median_ratio: float
    final_normalized_variance: float
    final_noise_to_signal: float
    gradient_evaluations: float


def summary(trace: Trace, baseline: str = "sg-b") -> list[SummaryRow]:
    """The estimators at the last log point, and their median ratio to the baseline over the run."""
    reference = trace[baseline].average_variance if baseline in trace else None
    rows = []
    for name in trace.estimators:
        series = trace[name]
        ratio = _ratio(series.average_variance, reference)
        rows.append(
            SummaryRow(
                estimator=name,
                color=plots.color_of(name, trace.estimators),
                final_variance=_last(series, "average_variance"),
                final_ratio=float(ratio[-1]) if len(ratio) else np.nan,
                median_ratio=float(np.median(ratio[np.isfinite(ratio)])) if np.isfinite(ratio).any() else np.nan,
                final_normalized_variance=_last(series, "normalized_variance"),
                final_noise_to_signal=_last(series, "noise_to_signal"),
                gradient_evaluations=float(np.nansum(series["gradient_evaluations"])) if "gradient_evaluations" in series else np.nan,
            )
        )
    return rows


def warnings(trace: Trace) -> list[str]:
    """What a reader of the figures has to know."""
    return [text for text in (_unfinished(trace), _heavy_tail(trace), _not_finite(trace), *_above_baseline(trace)) if text]


def html(trace: Trace) -> str:
    """The report: one self-contained page."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("gradist", "templates"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["number"] = _number
    window = plots.default_window(len(trace.iterations))
    available = plots.available(trace)
    figures = [
        {"name": name, "image": _data_uri(trace, name), "caption": caption.format(window=window)}
        for name, caption in _CAPTIONS.items()
        if name in available
    ]
    return environment.get_template("report.html.j2").render(
        title=Path(trace.path).name,
        trace=trace,
        config=trace.config,
        measured=_how_measured(trace),
        rows=summary(trace),
        warnings=warnings(trace),
        figures=figures,
    )


def figure_files(trace: Trace, folder: str | os.PathLike[str], format: str) -> list[Path]:
    """Writes every figure for which the trace has values into `folder`, as `png` or `pdf`."""
    target = Path(folder)
    target.mkdir(exist_ok=True)
    files = []
    for name in plots.available(trace):
        files.append(target / f"{name}.{format}")
        plots.make_figure(name, trace).savefig(files[-1])
    return files


def main(arguments: Sequence[str]) -> int:
    """The subcommand; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        with open_trace(options.trace) as trace:
            status = _write(trace, options)
        sys.stdout.flush()
        return status
    except (OSError, ValueError) as error:
        print(f"gradist report: {_one_line(error)}", file=sys.stderr)
        return 2
    except (AttributeError, LookupError, TypeError, ArithmeticError) as error:
        # A file of the right schema may lack anything.
        print(f"gradist report: {options.trace}: damaged or no complete trace ({_one_line(error)})", file=sys.stderr)
        return 2


# ---- warnings


def _unfinished(trace: Trace) -> str:
    planned, done = trace.config.get("iterations"), int(trace.iterations[-1])
    if not isinstance(planned, int) or done >= planned:
        return ""
    return f"The trace ends at iteration {done:,} of {planned:,}: the run is still going, or was stopped."


def _heavy_tail(trace: Trace) -> str:
    if "top_percent_share" not in trace.gradients:
        return ""
    share = trace.gradients.top_percent_share
    heavy = share > _HEAVY_SHARE
    if not heavy.any():
        return ""
    return (
        f"1 % of the examples carry more than half of the squared norm of all gradients at {heavy.sum():,} of {len(share):,} "
        f"log points (up to {100 * np.nanmax(share):.0f} %). A few examples decide the variance there: measurements by subset "
        "or sampling see them or miss them, and their 95 % intervals cover less than 95 %."
    )


def _not_finite(trace: Trace) -> str:
    first = [
        int(trace.iterations[~np.isfinite(trace[name].average_variance)][0])
        for name in trace.estimators
        if not np.isfinite(trace[name].average_variance).all()
    ]
    return f"Variances are not finite from iteration {min(first):,} on: the run has diverged." if first else ""


def _above_baseline(trace: Trace) -> list[str]:
    """Estimators that cost a refresh and do worse than a plain minibatch: their refresh has gone stale."""
    if "sg-b" not in trace:
        return []
    notes = []
    for name in trace.refreshes:
        if name in trace:
            worse = _ratio(trace[name].average_variance, trace["sg-b"].average_variance) > 1
            if worse.any():
                notes.append(
                    f"{name.upper()} has a higher variance than SG-B at {worse.sum():,} of {len(worse):,} log points: "
                    "what its refreshes made is out of date there."
                )
    return notes


# ---- pieces


def _how_measured(trace: Trace) -> str:
    config = trace.config
    how = {
        "exact": "exactly, from one pass over all examples",
        "subset": f"on {config.get('measure_examples', '?')} random examples, with a 95 % interval",
        "sampled": f"from {config.get('draws', '?')} draws of each estimator, with a 95 % interval",
    }
    mode = str(config.get("measure", "exact"))
    protocol = f", protocol {config['protocol']}" if config.get("protocol", "none") != "none" else ""
    return f"All {trace.parameters:,} parameters are measured, {how.get(mode, mode)}{protocol}."


def _ratio(values: Any, reference: Any) -> Any:
    if reference is None:
        return np.full(len(values), np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(values / reference)


def _last(series: Any, name: str) -> float:
    return float(series[name][-1]) if name in series and len(series[name]) else float("nan")


def _number(value: float) -> str:
    if not np.isfinite(value):
        return "–"
    if value == int(value) and abs(value) < 1e15 and abs(value) >= 1000:
        return f"{int(value):,}"
    return f"{value:.3g}"


def _data_uri(trace: Trace, name: str) -> str:
    buffer = io.BytesIO()
    # No date, so that the same trace gives the same report.
    plots.make_figure(name, trace, width=6.5).savefig(buffer, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()


def _write(trace: Trace, options: argparse.Namespace) -> int:
    if len(trace.iterations) == 0:
        raise ValueError(f"{trace.path}: no log point yet")
    if options.format == "html":
        target = Path(options.out or "report.html")
        _check_target(target, trace)
        _replace(target, html(trace))
        print(f"wrote {target}")
    else:
        folder = Path(options.out or "figures")
        print(f"wrote {len(figure_files(trace, folder, options.format))} figures into {folder}")
    return 0


def _check_target(target: Path, trace: Trace) -> None:
    if target.is_dir():
        raise ValueError(f"--out = {target}, must be a file")
    if not target.parent.is_dir():
        raise ValueError(f"--out = {target}, must be in an existing folder")
    if target.exists() and target.samefile(trace.path):
        raise ValueError(f"--out = {target}, must not be the trace itself")


def _replace(target: Path, text: str) -> None:
    """All of the file or nothing of it."""
    part = target.with_name(f"{target.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(target)


def _one_line(error: Exception) -> str:
    """What Python says about a file as `file: reason`, without its numbers and quotes."""
    if isinstance(error, KeyError) and error.args:
        return str(error.args[0])
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'standard output'}: {error.strerror}"
    return (str(error).splitlines() or [type(error).__name__])[0]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="gradist report", description="A trace as one HTML file with its figures inside.")
    parser.add_argument("trace", help="trace file that gradist run wrote")
    parser.add_argument("-o", "--out", help="HTML file (report.html), or the folder of the figures (figures)")
    parser.add_argument(
        "--format", choices=("html", "png", "pdf"), default="html", help="html: one page; png or pdf: each figure a file"
    )
    return parser
