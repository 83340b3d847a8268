"""Variances of single coordinates, of `gradist.measure` and of runs, against gradients formed one by one."""

import copy

import models
import numpy as np
import one_by_one
import pytest
import torch
from conftest import SMALL_RUN
from torch import nn

import gradist

LOSS = nn.CrossEntropyLoss(reduction="none")
BATCH_SIZE = 6


def flat(parts):
    return np.concatenate([np.asarray(each).ravel() for each in parts.values()])


def half_squared_error(outputs, targets):
    return (outputs[:, 0] - targets).square() / 2


def regression():
    """Features of very different scales, as those of YearPredictionMSD before they are standardised."""
    generator = torch.Generator().manual_seed(3)
    scales = 10.0 ** torch.arange(-2, 3, dtype=torch.float64)
    inputs = scales * torch.randn(40, 5, generator=generator, dtype=torch.float64)
    targets = inputs.sum(1) + torch.randn(40, generator=generator, dtype=torch.float64)
    model = nn.Linear(5, 1).double()
    with torch.no_grad():
        model.weight.copy_(torch.linspace(-1, 1, 5))
        model.bias.fill_(0.5)
    return model, inputs, targets


def moved(model, distance=0.1):
    return {name: each.detach() + distance for name, each in model.named_parameters()}


def regression_gradients(parameters, inputs, targets):
    x = np.concatenate([inputs.numpy(), np.ones((len(inputs), 1))], axis=1)
    theta = np.concatenate([parameters["weight"].detach().numpy()[0], parameters["bias"].detach().numpy()])
    return (x @ theta - targets.numpy())[:, None] * x


@pytest.mark.parametrize("replacement", [True, False], ids=["with replacement", "without replacement"])
@pytest.mark.parametrize("max_memory", [0, 1000], ids=["at once", "in chunks"])
def test_linear_regression_feature_by_feature(replacement, max_memory):
    model, inputs, targets = regression()
    snapshot = moved(model)
    m = gradist.measure(
        model, half_squared_error, (inputs, targets), estimators=["sg-b", "svrg"], snapshot=snapshot, batch_size=BATCH_SIZE,
        replacement=replacement, per_coordinate=True, max_memory=max_memory,
    )  # fmt: skip
    g = regression_gradients(dict(model.named_parameters()), inputs, targets)
    before = regression_gradients(snapshot, inputs, targets)
    share = 1 if replacement else (40 - BATCH_SIZE) / 39
    for name, rows in (("sg-b", g), ("svrg", g - before)):
        variance = share * rows.var(axis=0) / BATCH_SIZE
        np.testing.assert_allclose(flat(m.coordinate_variance[name]), variance, rtol=1e-10)
    np.testing.assert_allclose(flat(m.full_gradient), g.mean(axis=0), rtol=1e-10)
    assert m.coordinate_variance["svrg"]["weight"].shape == (1, 5)


def test_a_coordinate_whose_differences_are_far_smaller_than_those_of_others():
    """Half the examples have feature 0, half feature 1, and hardly anything but the weight of the second has moved."""
    generator = torch.Generator().manual_seed(4)
    inputs = torch.zeros(40, 2, dtype=torch.float64)
    inputs[:20, 0] = inputs[20:, 1] = 1 + torch.rand(20, generator=generator, dtype=torch.float64)
    targets = torch.randn(40, generator=generator, dtype=torch.float64)
    model = nn.Linear(2, 1, bias=False).double()
    away = torch.tensor([[1e-7, 1.0]], dtype=torch.float64)
    snapshot = {"weight": model.weight.detach() - away}
    m = gradist.measure(
        model, half_squared_error, (inputs, targets), estimators=["sg-b", "svrg"], snapshot=snapshot, batch_size=1, per_coordinate=True
    )
    differences = (inputs.square() * away).numpy()  # x_ij (x_i'away), one feature an example
    np.testing.assert_allclose(flat(m.coordinate_variance["svrg"]), differences.var(axis=0), rtol=1e-7)


@pytest.mark.parametrize("name", models.NAMES)
def test_any_model_against_one_by_one_gradients(name):
    model, inputs, targets = models.make(name)
    snapshot = models.moved(model)
    data = (inputs, targets)
    clustering = gradist.cluster(model, LOSS, data, k=BATCH_SIZE)
    names = ["sg-b", "sg-2b", "svrg", "gc"]
    m = gradist.measure(
        model, LOSS, data, estimators=names, batch_size=BATCH_SIZE, snapshot=snapshot, clustering=clustering, per_coordinate=True
    )
    other = copy.deepcopy(model)
    other.load_state_dict(snapshot)
    g = one_by_one.gradients(model, LOSS, inputs, targets)
    before = one_by_one.gradients(other, LOSS, inputs, targets)
    clusters = [g[np.asarray(clustering.assignments) == k] for k in range(BATCH_SIZE)]
    expected = {
        "sg-b": g.var(axis=0) / BATCH_SIZE,
        "sg-2b": g.var(axis=0) / (2 * BATCH_SIZE),
        "svrg": (g - before).var(axis=0) / BATCH_SIZE,
        "gc": sum((len(rows) / len(g)) ** 2 * rows.var(axis=0) for rows in clusters),  # a draw a cluster
    }
    for estimator in names:
        variance = flat(m.coordinate_variance[estimator])
        scale = expected["sg-b"].max()
        np.testing.assert_allclose(variance, expected[estimator], rtol=1e-9, atol=1e-13 * scale)
        assert variance.mean() == pytest.approx(m[estimator].average_variance, rel=1e-10)


def test_only_where_it_is_asked_for_and_the_model_stays():
    model, inputs, targets = regression()
    state = copy.deepcopy(model.state_dict())
    keywords = {"estimators": ["sg-b", "svrg"], "snapshot": state, "batch_size": 1}
    m = gradist.measure(model, half_squared_error, (inputs, targets), per_coordinate=True, **keywords)
    assert flat(m.coordinate_variance["svrg"]).max() == 0, "at the snapshot"
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert gradist.measure(model, half_squared_error, (inputs, targets), **keywords).coordinate_variance == {}


@pytest.mark.parametrize("method", ["subset", "sampled"])
def test_estimates_add_up_to_the_average_variance(method):
    model, inputs, targets = regression()
    m = gradist.measure(
        model, half_squared_error, (inputs, targets), estimators=["sg-b", "svrg"], snapshot=moved(model), batch_size=BATCH_SIZE,
        method=method, examples=20, draws=10, per_coordinate=True,
    )  # fmt: skip
    for name, moments in m.items():
        assert flat(m.coordinate_variance[name]).mean() == pytest.approx(moments.average_variance, rel=1e-10)
        assert flat(m.coordinate_variance[name]).min() > 0


# ---- in the trace of a run


@pytest.mark.parametrize("measure", ["exact", "subset", "sampled"])
def test_the_trace_of_a_run(measure, tmp_path):
    options = SMALL_RUN | {"measure": measure, "measure_examples": 400, "per_coordinate": True}
    with gradist.run(out=tmp_path / "trace.h5", **options) as trace:
        points = len(trace.iterations)
        assert set(trace.full_gradient) == set(trace.layers)
        for name in trace.estimators:
            by_layer = trace[name].layers
            for layer, variance in trace[name].coordinate_variance.items():
                assert variance.shape == trace.full_gradient[layer].shape and len(variance) == points
                np.testing.assert_allclose(variance.reshape(points, -1).mean(1), by_layer[layer], rtol=1e-5)
        if measure == "exact":
            squares = sum(each.reshape(points, -1).__pow__(2).sum(1) for each in trace.full_gradient.values())
            np.testing.assert_allclose(squares, trace.trajectory.squared_gradient_norm, rtol=1e-12)
        data = trace.to_xarray()
        layer = trace.layers[0]
        assert data[f"{layer}_full_gradient"].dims == ("iteration", f"{layer}_0", f"{layer}_1")
        np.testing.assert_array_equal(
            data[f"{layer}_variance"].sel(estimator="svrg"), trace["svrg"].coordinate_variance[layer]
        )


def test_a_run_is_the_same_with_and_without(tmp_path):
    plain = gradist.run(out=tmp_path / "plain.h5", **SMALL_RUN)
    watched = gradist.run(out=tmp_path / "watched.h5", per_coordinate=True, **SMALL_RUN)
    np.testing.assert_array_equal(plain.trajectory.parameter_hash, watched.trajectory.parameter_hash)
    assert plain.full_gradient == {} and plain["svrg"].coordinate_variance == {}
    for name in plain.estimators:
        np.testing.assert_allclose(watched[name].average_variance, plain[name].average_variance, rtol=1e-5, atol=1e-12)
