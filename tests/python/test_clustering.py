import math
import re

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
    [
        ({"k": 0}, "k = 0"),
        ({"k": 100}, "k = 100"),
        ({"iterations": 0}, "iterations = 0"),
        ({"method": "descend"}, "'lloyd'"),
        ({"centers": "means"}, "^centers = means, must be one of factors, svd$"),
        ({"rank": 2}, "^rank = 2: must be 1 where centers = factors$"),
        ({"weighting": "some"}, "^weighting = some, must be one of running, fixed, none$"),
        ({"fraction": 0}, "^fraction = 0: must lie in"),
        ({"minibatch": -1}, "^minibatch = -1: must be >= 0$"),
        ({"decay": 2}, "^decay = 2: must lie in"),
        ({"parameters": ["head*"]}, "^parameters = head[*]: must match a parameter, such as "),
    ],
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
    # Nothing moved in between: the former objective is the present one, and counts by its weight and by what the clusters are worth.
    sg_b = gradist.measure(model, LOSS, (inputs, targets), estimators=["sg-b"], batch_size=8)["sg-b"].trace_covariance
    worth = (1 - first.objective / 80**2 / sg_b) ** 4
    assert 0.1 < worth < 0.9
    for seed in (1, 2):
        second = gradist.cluster(model, LOSS, (inputs, targets), k=8, method="descent", iterations=2, start=first, seed=seed, memory=0.25)
        assert second.history[0] == pytest.approx((1 + 0.25 * worth) * first.objective, rel=1e-9)
    mine = gradist.Clustering(first.assignments)
    third = gradist.cluster(model, LOSS, (inputs, targets), k=8, method="descent", iterations=2, start=mine)
    assert third.history[0] == pytest.approx(first.objective, rel=1e-9)


@pytest.mark.parametrize(
    ("method", "start", "rule"),
    [
        ("lloyd", gradist.Clustering([0, 1] * 40), "must be 'k-means++' or 'random' for method = 'lloyd'"),
        ("lloyd", "far", "start = far, must be one of k-means++, random"),
        ("descent", "random", "start = 'random', must be clusters for method = 'descent'"),
    ],
)
def test_what_a_method_cannot_start_from_is_refused(method, start, rule):
    model, inputs, targets = models.make("mlp", examples=80)
    with pytest.raises(ValueError, match=re.escape(rule)):
        gradist.cluster(model, LOSS, (inputs, targets), k=8, method=method, start=start)


def test_lloyd_from_random_examples_is_no_worse_than_sg_b():
    model, inputs, targets = models.make("mlp", examples=80)
    far, any_ = (gradist.cluster(model, LOSS, (inputs, targets), k=8, start=start) for start in ("k-means++", "random"))
    assert not torch.equal(far.assignments, any_.assignments)
    m = gradist.measure(model, LOSS, (inputs, targets), estimators=["sg-b", "gc"], batch_size=8, clustering=any_)
    assert m["gc"].average_variance <= m["sg-b"].average_variance


@pytest.mark.parametrize("method", ["lloyd", "descent"])
def test_variance_by_cluster_and_by_parameter(method):
    model, inputs, targets = models.make("mlp", examples=80)
    clusters = gradist.cluster(model, LOSS, (inputs, targets), k=8, method=method, iterations=3)
    rows = one_by_one.per_parameter(model, LOSS, inputs, targets)
    expected = {}
    for name, g in rows.items():
        parts = [g.flatten(1)[clusters.assignments == k] for k in range(8)]
        expected[name] = torch.stack([len(part) * (part - part.mean(0)).square().sum() if len(part) else torch.tensor(0.0) for part in parts])
    by_cluster = sum(expected.values()) / 80**2
    torch.testing.assert_close(clusters.variance_by_cluster, by_cluster.double(), rtol=1e-9, atol=1e-12 * float(by_cluster.sum()))
    assert list(clusters.variance_by_parameter) == [name for name, _ in model.named_parameters()]
    assert clusters.variance_by_parameter == pytest.approx({name: float(each.sum()) / 80**2 for name, each in expected.items()}, rel=1e-9)
    assert sum(clusters.variance_by_parameter.values()) == pytest.approx(clusters.objective / 80**2, rel=1e-9)
    mine = gradist.Clustering(clusters.assignments)
    assert mine.variance_by_cluster is None and mine.variance_by_parameter is None


# Exact centers without sizes: k-means, where no iteration raises the sum of squares.
def test_exact_centers_without_sizes_are_kmeans():
    model, inputs, targets = models.make("mlp", examples=80)
    options = {"k": 4, "centers": "svd", "rank": 1000, "weighting": "none"}
    clusters = gradist.cluster(model, LOSS, (inputs, targets), **options, iterations=30)
    g = torch.from_numpy(one_by_one.gradients(model, LOSS, inputs, targets))
    if torch.equal(clusters.sizes, torch.full((4,), 20)):
        pytest.fail("the guard has cut other clusters")
    means = torch.stack([g[clusters.assignments == k].mean(0) for k in range(4)])
    assert torch.equal(torch.cdist(g, means).argmin(1), clusters.assignments), "no example is nearer to another center"


def test_steps_of_lloyd_and_what_they_take():
    model, inputs, targets = models.make("mlp", examples=80)
    plain = gradist.cluster(model, LOSS, (inputs, targets), k=8, iterations=3)
    assert set(plain.seconds) == {"gradients", "A step", "U step"} and min(plain.seconds.values()) > 0
    online = gradist.cluster(model, LOSS, (inputs, targets), k=8, iterations=3, fraction=0.5, minibatch=16, decay=0.9)
    by_rank = gradist.cluster(model, LOSS, (inputs, targets), k=8, iterations=3, centers="svd", rank=2, parameters=["!*bias"])
    assert by_rank.seconds["SVD"] > 0
    for clusters in (online, by_rank):
        assert len(clusters.history) == 3 and clusters.history != plain.history and clusters.sizes.sum() == 80


@pytest.mark.parametrize("method", ["lloyd", "descent"])
def test_balanced_clusters_and_chosen_parameters(method):
    model, inputs, targets = models.make("mlp", examples=80)
    clusters = gradist.cluster(model, LOSS, (inputs, targets), k=8, method=method, balanced=True)
    assert clusters.sizes.tolist() == [10] * 8
    name = next(name for name, _ in model.named_parameters())
    chosen = gradist.cluster(model, LOSS, (inputs, targets), k=8, method=method, parameters=[name])
    everything = gradist.cluster(model, LOSS, (inputs, targets), k=8, method=method, parameters=["*"])
    assert torch.equal(everything.assignments, gradist.cluster(model, LOSS, (inputs, targets), k=8, method=method).assignments)
    assert not torch.equal(chosen.assignments, everything.assignments)
