import math

import models
import numpy as np
import one_by_one
import pytest
import torch
from torch import nn

import gradist

LOSS = nn.CrossEntropyLoss(reduction="none")


@pytest.mark.parametrize("make", [list, np.array, torch.tensor], ids=["list", "array", "tensor"])
def test_a_clustering_of_ones_own(make):
    clusters = gradist.Clustering(make([0, 2, 2, 0, 2]))
    assert clusters.assignments.tolist() == [0, 2, 2, 0, 2]
    assert clusters.sizes.tolist() == [2, 0, 3]
    assert len(clusters) == 3
    assert clusters.history == [] and math.isnan(clusters.objective)


@pytest.mark.parametrize("assignments", [[-1, 0], [[0, 1]], [0.5, 1.0]], ids=["negative", "matrix", "fractions"])
def test_assignments_that_are_none(assignments):
    with pytest.raises(ValueError):
        gradist.Clustering(assignments)


def test_objective_is_that_of_one_by_one_gradients():
    model, inputs, targets = models.make("mlp", examples=80)
    clusters = gradist.cluster(model, LOSS, (inputs, targets), k=8, iterations=3)
    g = one_by_one.gradients(model, LOSS, inputs, targets)
    parts = [g[clusters.assignments.numpy() == k] for k in range(8)]
    expected = sum(len(part) * ((part - part.mean(axis=0)) ** 2).sum() for part in parts if len(part))
    assert clusters.objective == pytest.approx(expected, rel=1e-9)
    assert clusters.sizes.sum() == 80 and len(clusters) == 8
    assert len(clusters.history) > 0


def test_same_seed_same_clusters():
    model, inputs, targets = models.make("mlp", examples=80)
    first, again = (gradist.cluster(model, LOSS, (inputs, targets), k=8, iterations=2, seed=4) for _ in range(2))
    assert torch.equal(first.assignments, again.assignments)


@pytest.mark.parametrize(
    "change, message",
    [({"k": 0}, "k = 0"), ({"k": 100}, "k = 100"), ({"iterations": 0}, "iterations = 0"), ({"method": "descend"}, "'lloyd'")],
)
def test_mistakes(change, message):
    model, inputs, targets = models.make("mlp")
    with pytest.raises(ValueError, match=message):
        gradist.cluster(model, LOSS, (inputs, targets), **{"k": 4, **change})


def test_descent_reaches_a_lower_objective_and_its_history_never_rises():
    model, inputs, targets = models.make("mlp", examples=80)
    clusters = gradist.cluster(model, LOSS, (inputs, targets), k=8, method="descent", iterations=50)
    g = one_by_one.gradients(model, LOSS, inputs, targets)
    parts = [g[clusters.assignments.numpy() == k] for k in range(8)]
    expected = sum(len(part) * ((part - part.mean(axis=0)) ** 2).sum() for part in parts if len(part))
    assert clusters.objective == pytest.approx(expected, rel=1e-9)
    assert all(later <= earlier for earlier, later in zip(clusters.history, clusters.history[1:], strict=False))
    # Few examples: the descent sees the gradients themselves.
    assert clusters.history[-1] == pytest.approx(expected, rel=1e-9)


def test_descent_begins_at_given_clusters():
    model, inputs, targets = models.make("mlp", examples=80)
    first = gradist.cluster(model, LOSS, (inputs, targets), k=8, method="descent", iterations=2)
    second = gradist.cluster(model, LOSS, (inputs, targets), k=8, method="descent", iterations=2, start=first, seed=1, memory=0)
    assert second.history[0] == pytest.approx(first.objective, rel=1e-9)
    assert second.objective <= first.objective * (1 + 1e-9)


def test_descent_remembers_the_gradients_where_its_start_was_made():
    model, inputs, targets = models.make("mlp", examples=80)
    first = gradist.cluster(model, LOSS, (inputs, targets), k=8, method="descent", iterations=2)
    # Nothing moved in between: the former objective is the present one, and counts by its weight.
    for seed in (1, 2):
        second = gradist.cluster(model, LOSS, (inputs, targets), k=8, method="descent", iterations=2, start=first, seed=seed, memory=0.25)
        assert second.history[0] == pytest.approx(1.25 * first.objective, rel=1e-9)
    mine = gradist.Clustering(first.assignments)
    third = gradist.cluster(model, LOSS, (inputs, targets), k=8, method="descent", iterations=2, start=mine)
    assert third.history[0] == pytest.approx(first.objective, rel=1e-9)


def test_start_is_for_the_descent():
    model, inputs, targets = models.make("mlp", examples=80)
    first = gradist.Clustering([0, 1] * 40)
    with pytest.raises(ValueError, match="only 'descent'"):
        gradist.cluster(model, LOSS, (inputs, targets), k=8, method="lloyd", start=first)
