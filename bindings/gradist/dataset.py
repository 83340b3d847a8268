"""A trace as one `xarray.Dataset`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import xarray

    from gradist.trace import GradientSeries, Trace

__all__ = ["from_trace"]

Variables = dict[str, tuple[tuple[str, ...], NDArray[Any]]]

# Both the run and each measurement have `seconds`.
_RENAMED = {"seconds": "measurement_seconds"}
# The axes of what a refresh made, after the refreshes themselves.
_AXES: dict[str, tuple[str, ...]] = {
    "gradient_evaluations": (),
    "seconds": (),
    "assignments": ("example",),
    "sizes": ("cluster",),
    "objective": ("step",),
    "scatter": ("cluster",),
    "parameter_scatter": ("parameter",),
}


def from_trace(trace: Trace) -> xarray.Dataset:
    """Everything in the trace: dimensions iteration, estimator, layer, quantile, bin, edge, and those of the refreshes."""
    import xarray

    variables: Variables = {name: (("iteration",), values) for name, values in trace.trajectory.items() if name != "iteration"}
    variables |= _estimators(trace)
    variables |= _gradients(trace.gradients)
    coordinates: dict[str, Any] = {
        "iteration": trace.iterations,
        "estimator": list(trace.estimators),
        "layer": list(trace.layers),
    }
    if "squared_norm_quantiles" in variables:
        coordinates["quantile"] = np.linspace(0, 1, variables["squared_norm_quantiles"][1].shape[1])
    for estimator, refresh in trace.refreshes.items():
        prefix = estimator.replace("-", "_")
        coordinates[f"{prefix}_refresh"] = refresh.iteration
        for name in refresh:
            if name in _AXES:
                axes = (f"{prefix}_refresh", *(f"{prefix}_{axis}" for axis in _AXES[name]))
                variables[f"{prefix}_{name}"] = (axes, refresh[name])
    if "iteration" in trace.drift:
        coordinates["drift_iteration"] = trace.drift.iteration
        for name in trace.drift:
            if name != "iteration":
                variables[f"drift_{name}"] = (("drift_iteration",), trace.drift[name])
    variables |= _coordinates(trace)
    if trace.metainit is not None:
        coordinates["metainit_step"] = trace.metainit.step
        variables["metainit_quotient"] = (("metainit_step",), trace.metainit.quotient)
    return xarray.Dataset(variables, coordinates, trace.attributes)


def _estimators(trace: Trace) -> Variables:
    """Quantities of the estimators stacked over `estimator`, NaN where an estimator lacks one."""
    series = [trace[name] for name in trace.estimators]
    missing = np.full(len(trace.iterations), np.nan)
    quantities = dict.fromkeys(name for each in series for name in each if name != "iteration")
    variables: Variables = {}
    for name in quantities:
        values = np.stack([each[name] if name in each else missing for each in series])
        variables[_RENAMED.get(name, name)] = (("estimator", "iteration"), values)
    if trace.layers:
        stacked = [[each.layers.get(layer, missing) for layer in trace.layers] for each in series]
        variables["layer_average_variance"] = (("estimator", "layer", "iteration"), np.array(stacked))
    return variables


def _coordinates(trace: Trace) -> Variables:
    """Means and variances of single coordinates, a variable a parameter, over its own axes."""
    variables: Variables = {}
    for layer, gradient in trace.full_gradient.items():
        axes = tuple(f"{layer}_{axis}" for axis in range(gradient.ndim - 1))
        variables[f"{layer}_full_gradient"] = (("iteration", *axes), gradient)
        variance = np.stack([trace[name].coordinate_variance[layer] for name in trace.estimators])
        variables[f"{layer}_variance"] = (("estimator", "iteration", *axes), variance)
    return variables


def _gradients(gradients: GradientSeries) -> Variables:
    axes: dict[str, tuple[str, ...]] = {
        "squared_norm_quantiles": ("iteration", "quantile"),
        "squared_norm_histogram": ("iteration", "bin"),
        "squared_norm_histogram_edges": ("edge",),
        "top_percent_share": ("iteration",),
    }
    return {name: (axes[name], gradients[name]) for name in axes if name in gradients}
