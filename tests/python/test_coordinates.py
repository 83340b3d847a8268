"""`gradist.per_coordinate` against gradients formed one by one, and against `gradist.measure`."""

import copy

import models
import numpy as np
import one_by_one
import pytest
import torch
from torch import nn

import gradist
from gradist import coordinates

LOSS = nn.CrossEntropyLoss(reduction="none")
BATCH_SIZE = 6


def flat(parts):
    return np.concatenate([each.numpy().ravel() for each in parts.values()])


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


@pytest.mark.parametrize("replacement", [True, False], ids=["with replacement", "without replacement"])
def test_linear_regression_feature_by_feature(replacement):
    model, inputs, targets = regression()
    snapshot = moved(model)
    found = gradist.per_coordinate(
        model, half_squared_error, (inputs, targets), snapshot=snapshot, batch_size=BATCH_SIZE, replacement=replacement
    )
    x = np.concatenate([inputs.numpy(), np.ones((40, 1))], axis=1)
    theta = np.concatenate([model.weight.detach().numpy()[0], model.bias.detach().numpy()])
    before = np.concatenate([snapshot["weight"].numpy()[0], snapshot["bias"].numpy()])
    g = (x @ theta - targets.numpy())[:, None] * x
    g_before = (x @ before - targets.numpy())[:, None] * x
    share = 1 if replacement else (40 - BATCH_SIZE) / 39
    for name, rows in (("sg-b", g), ("svrg", g - g_before)):
        variance = share * rows.var(axis=0) / BATCH_SIZE
        np.testing.assert_allclose(flat(found[name].variance), variance, rtol=1e-10)
        np.testing.assert_allclose(flat(found[name].deviation), np.sqrt(variance), rtol=1e-10)
        np.testing.assert_allclose(flat(found[name].mean), g.mean(axis=0), rtol=1e-10)
    assert found["svrg"].variance["weight"].shape == (1, 5)


@pytest.mark.parametrize("name", models.NAMES)
def test_any_model_against_one_by_one_gradients_and_measure(name):
    model, inputs, targets = models.make(name)
    snapshot = models.moved(model)
    found = gradist.per_coordinate(model, LOSS, (inputs, targets), snapshot=snapshot, batch_size=BATCH_SIZE)
    other = copy.deepcopy(model)
    other.load_state_dict(snapshot)
    g = one_by_one.gradients(model, LOSS, inputs, targets)
    before = one_by_one.gradients(other, LOSS, inputs, targets)
    m = gradist.measure(
        model, LOSS, (inputs, targets), estimators=["sg-b", "svrg"], batch_size=BATCH_SIZE, snapshot=snapshot
    )
    for estimator, rows in (("sg-b", g), ("svrg", g - before)):
        variance = flat(found[estimator].variance)
        np.testing.assert_allclose(variance, rows.var(axis=0) / BATCH_SIZE, rtol=1e-9, atol=1e-14 * variance.max())
        assert variance.mean() == pytest.approx(m[estimator].average_variance, rel=1e-10)


def test_chunks_change_nothing(monkeypatch):
    model, inputs, targets = regression()
    whole = gradist.per_coordinate(model, half_squared_error, (inputs, targets), snapshot=moved(model), batch_size=7)
    monkeypatch.setattr(coordinates, "_CHUNK_BYTES", 8 * 6 * 7)  # seven examples at a time
    parts = gradist.per_coordinate(model, half_squared_error, (inputs, targets), snapshot=moved(model), batch_size=7)
    for name in whole:
        np.testing.assert_allclose(flat(parts[name].variance), flat(whole[name].variance), rtol=1e-12)
        np.testing.assert_allclose(flat(parts[name].mean), flat(whole[name].mean), rtol=1e-12)


def test_at_the_snapshot_svrg_has_no_variance_and_the_model_stays():
    model, inputs, targets = regression()
    state = copy.deepcopy(model.state_dict())
    found = gradist.per_coordinate(model, half_squared_error, (inputs, targets), snapshot=state, batch_size=1)
    assert flat(found["svrg"].variance).max() == 0
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(each.grad is None for each in model.parameters())
    assert set(gradist.per_coordinate(model, half_squared_error, (inputs, targets), batch_size=1)) == {"sg-b"}


@pytest.mark.parametrize("batch_size", [0, 41])
def test_batch_sizes_that_cannot_be_are_refused(batch_size):
    model, inputs, targets = regression()
    with pytest.raises(ValueError, match=rf"batch_size = {batch_size}, must lie in \[1, 40\], the number of examples"):
        gradist.per_coordinate(model, half_squared_error, (inputs, targets), batch_size=batch_size)


def test_snapshots_of_other_models_are_refused():
    model, inputs, targets = regression()
    with pytest.raises(ValueError, match="snapshot has no parameter 'weight'"):
        gradist.per_coordinate(model, half_squared_error, (inputs, targets), snapshot={}, batch_size=1)
