import math
import re

import models
import numpy as np
import one_by_one
import pytest
import torch
from torch import nn

import gradist
from gradist import clustering

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


# ---- what is in the clusters


def _dense_distances(model, inputs, targets, assignments):
    """||g_i - C_k||^2 from gradients formed one by one, and ||g_i||^2 + ||C_k||^2, which rounding goes by; [N] each."""
    g = torch.from_numpy(one_by_one.gradients(model, LOSS, inputs, targets))
    centers = torch.stack([g[assignments == k].mean(0) for k in assignments])
    return (g - centers).square().sum(1), g.square().sum(1) + centers.square().sum(1)


@pytest.mark.parametrize("name", models.NAMES)
def test_distances_are_those_of_dense_gradients(name):
    model, inputs, targets = models.make(name)
    assignments = torch.tensor([0, 3, 1, 1] + [3, 5, 5, 5] * 5)  # one alone, one of two, empty ones, large ones
    clusters = gradist.Clustering(assignments)
    before = {name: each.clone() for name, each in model.state_dict().items()}
    found = clusters.distances(model, LOSS, (inputs, targets))
    expected, scale = _dense_distances(model, inputs, targets, assignments)
    assert found.dtype == torch.float64 and found.shape == (24,)
    assert ((found - expected).abs() <= 1e-10 * scale).all()
    assert found[0] == 0, "alone in its cluster, exactly at the center"
    assert found[2] == pytest.approx(float(found[3]), rel=1e-9), "of two, both are equally far from their middle"
    assert all(torch.equal(each, before[name]) for name, each in model.state_dict().items())
    assert all(each.grad is None for each in model.parameters())


# A center of a hundred times an example's norm, and examples that nearly are their center: what products of factors cancel in.
def test_distances_do_not_cancel_beyond_rounding():
    model = nn.Linear(3, 1, bias=False).double()
    loss_fn = lambda outputs, targets: (outputs.squeeze(1) * targets)  # noqa: E731  g_i = target_i input_i
    inputs = torch.randn(8, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    inputs[1:4] = inputs[0] + 1e-6 * inputs[1:4]
    targets = torch.tensor([1.0, 1, 1, 1, 1e3, 1e3, 1, 1], dtype=torch.float64)
    assignments = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
    found = gradist.Clustering(assignments).distances(model, loss_fn, (inputs, targets))
    g = targets[:, None] * inputs
    centers = torch.stack([g[:4].mean(0), g[4:].mean(0)])[assignments]
    scale = g.square().sum(1) + centers.square().sum(1)
    assert ((found - (g - centers).square().sum(1)).abs() <= 1e-14 * scale).all() and (found >= 0).all()
    threes = torch.arange(40).repeat_interleave(3)
    inputs = torch.randn(40, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))[threes]
    same = gradist.Clustering(threes).distances(model, loss_fn, (inputs, torch.ones(120).double()))
    assert (same >= 0).all() and (same <= 1e-14 * inputs.square().sum(1)).all()


def test_distances_add_up_to_the_objective_in_chunks_of_any_size():
    model, inputs, targets = models.make("convolution", examples=80)
    clusters = gradist.cluster(model, LOSS, (inputs, targets), k=6, method="descent")
    found = clusters.distances(model, LOSS, (inputs, targets))
    sums = torch.zeros(6, dtype=torch.float64).index_add_(0, clusters.assignments, found)
    torch.testing.assert_close(clusters.sizes * sums, clusters.scatter, rtol=1e-9, atol=1e-9 * clusters.objective)
    one_at_a_time = clusters.distances(model, LOSS, (inputs, targets), max_memory=1)
    torch.testing.assert_close(one_at_a_time, found, rtol=1e-10, atol=1e-12 * float(found.max()))


# In float32 the gradients themselves are known to about 1e-6 of their norm.
def test_distances_in_single_precision():
    model, inputs, targets = models.make("convolution")
    assignments = torch.arange(24) % 4
    found = gradist.Clustering(assignments).distances(model.float(), LOSS, (inputs.float(), targets))
    expected, scale = _dense_distances(model.double(), inputs.float().double(), targets, assignments)
    assert found.dtype == torch.float64
    assert ((found - expected).abs() <= 1e-5 * scale).all()


def test_a_chunk_has_no_more_examples_than_the_memory(monkeypatch):
    model, inputs, targets = models.make("mlp", examples=80)
    seen = []
    original = clustering.ModelSource.gradients
    monkeypatch.setattr(clustering.ModelSource, "gradients", lambda self, i: (seen.append(len(i)), original(self, i))[1])
    clusters = gradist.Clustering([0] * 70 + [1] * 10)
    source = clustering.ModelSource(model, LOSS, (inputs, targets))
    clusters.distances(model, LOSS, (inputs, targets), max_memory=16 * source.bytes_an_example())
    passes = [size for size in seen if size > 2]  # the few before are what a chunk may take
    assert passes == [16, 16, 16, 16, 6, 10]


def test_nearest_and_farthest():
    clusters = gradist.Clustering([0, 2, 2, 0, 2, 2, 4])
    distances = [0.5, 3.0, 1.0, 0.25, 2.0, 1.0, 0.0]
    assert [each.tolist() for each in clusters.nearest(distances, 3)] == [[3, 0], [], [2, 5, 4], [], [6]]
    assert [each.tolist() for each in clusters.farthest(torch.tensor(distances), 2)] == [[0, 3], [], [1, 4], [], [6]]


@pytest.mark.parametrize("make", [list, np.array, torch.tensor], ids=["list", "array", "tensor"])
def test_composition(make):
    clusters = gradist.Clustering([0, 2, 2, 0, 2])
    found = clusters.composition(make([3, 0, 1, 3, 1]))
    assert found.dtype == torch.int64
    assert found.tolist() == [[0, 0, 0, 2], [0, 0, 0, 0], [1, 2, 0, 0]]
    assert clusters.composition(torch.tensor([True, False, True, True, True])).tolist() == [[0, 2], [0, 0], [1, 2]]


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda c, m, x, y: c.composition(y[:5]), r"^labels have shape \[5\], must be \[24\], one for each example$"),
        (lambda c, m, x, y: c.composition(y[:, None]), r"^labels have shape \[24, 1\], must be \[24\]"),
        (lambda c, m, x, y: c.composition(y.double()), "^labels are torch.float64, must be whole numbers from 0 on"),
        (lambda c, m, x, y: c.composition(y - 5), "^labels hold -5, must be whole numbers from 0 on"),
        (lambda c, m, x, y: c.distances(m, LOSS, (x[:5], y[:5])), "^data has 5 examples, must have as many as the clustering, 24$"),
        (lambda c, m, x, y: c.distances(m, LOSS, (x, y), max_memory=-1), "^max_memory = -1, must be >= 0$"),
        (lambda c, m, x, y: c.distances(m, LOSS, (x * math.nan, y)), "^the distances are not finite, must be"),
        (lambda c, m, x, y: c.distances(nn.Sequential(nn.Dropout(), m), LOSS, (x, y)), "drops at random"),
        (lambda c, m, x, y: c.nearest(torch.zeros(23)), r"^distances have shape \[23\], must be \[24\], one for each example$"),
        (lambda c, m, x, y: c.farthest(torch.zeros(24), 0), "^n = 0, must be >= 1$"),
        (lambda c, m, x, y: c.plot(torch.zeros(24, 8), y), r"^images have shape \[24, 8\], must be \[N, H, W\], "),
        (lambda c, m, x, y: c.plot(torch.zeros(24, 2, 8, 8), y), r"^images have shape \[24, 2, 8, 8\], must be "),
        (lambda c, m, x, y: c.plot(torch.zeros(23, 8, 8), y), r"^images have shape \[23, 8, 8\], must be .* with N = 24, the examples$"),
        (lambda c, m, x, y: c.plot(torch.zeros(24, 8, 8), y[:3]), r"^distances have shape \[3\]"),
        (lambda c, m, x, y: c.plot(torch.zeros(24, 8, 8), y, y[:3]), r"^labels have shape \[3\]"),
        (lambda c, m, x, y: c.plot(torch.zeros(24, 8, 8), y, y, names=["a"]), "^names has 1 entries, must have one for each of the 3 classes$"),
        (lambda c, m, x, y: c.plot(torch.zeros(24, 8, 8), y, clusters=[4]), r"^clusters: 4, must be a cluster with examples, in \[0, 3\]$"),
        (lambda c, m, x, y: c.plot(torch.zeros(24, 8, 8), y, clusters=[2]), "^clusters: 2, must be a cluster with examples"),
        (lambda c, m, x, y: c.plot(torch.zeros(24, 8, 8), y, clusters=[]), r"^clusters = \[\], must name at least one$"),
    ],
)  # fmt: skip
def test_what_does_not_fit_the_clusters_is_refused_in_one_line(ask, message):
    model, inputs, targets = models.make("mlp")
    clusters = gradist.Clustering([0, 1, 3, 3] * 6)
    with pytest.raises(ValueError, match=message) as error:
        ask(clusters, model, inputs, targets)
    assert "\n" not in str(error.value)


def _shown(figure):
    return [np.asarray(each.get_array()) for each in figure.axes[0].images]


def _texts(figure):
    return [each.get_text() for each in figure.axes[0].texts]


# Images whose first pixel tells the example and whose others tell black and white.
def _numbered(examples, *shape):
    images = torch.zeros(examples, *shape)
    images[..., 0, 0] = torch.arange(examples).view(-1, *[1] * (len(shape) - 2))
    images[..., 1, 1] = examples
    return images


@pytest.mark.parametrize("shape", [(4, 4), (1, 4, 4), (3, 4, 4)], ids=["grey", "one channel", "colour"])
def test_a_figure_of_the_examples_in_clusters(shape, tmp_path):
    sizes = [2, 0, 9, 1, 5]
    clusters = gradist.Clustering(torch.arange(5).repeat_interleave(torch.tensor(sizes)))
    distances = torch.tensor([2.0, 1, *range(9, 0, -1), 0, 1, 2, 3, 4, 5])
    labels = [0, 0, *[2] * 6, 1, 1, 0, 1, *[0] * 5]
    figure = clusters.plot(_numbered(17, *shape), distances, labels, n=3, width=5, names=["cat", "dog", "sea lion"])
    assert figure.get_figwidth() == 5
    shown = _shown(figure)
    assert all(each.shape == ((4, 4, 3) if shape[0] == 3 else (4, 4)) for each in shown)
    assert all(each.min() == 0 and each.max() == 1 for each in shown)
    # Largest cluster first: nearest, then farthest with the farthest last; none twice.
    examples = [round(17 * float(each[0, 0].max())) for each in shown]
    assert examples == [10, 9, 8, 4, 3, 2, 12, 13, 14, 15, 16, 1, 0, 11]
    for suffix in ("png", "pdf", "svg"):
        figure.savefig(tmp_path / f"figure.{suffix}")
        assert (tmp_path / f"figure.{suffix}").stat().st_size > 2000
    assert _texts(figure)[2:] == [
        "cluster 2\n9 examples (53 %)\nsea lion: 67 %, dog: 22 %,\ncat: 11 %",
        "cluster 4\n5 examples (29 %)\ncat: 100 %",
        "cluster 0\n2 examples (12 %)\ncat: 100 %",
        "cluster 3\n1 example (5.9 %)\ndog: 100 %",
    ]


def test_chosen_clusters_without_labels():
    clusters = gradist.Clustering(torch.arange(12) // 4)
    figure = clusters.plot(_numbered(12, 4, 4), torch.arange(12), clusters=[2, 0], n=2)
    assert _texts(figure)[2:] == ["cluster 2\n4 examples (33 %)", "cluster 0\n4 examples (33 %)"]
    assert [round(12 * float(each[0, 0])) for each in _shown(figure)] == [8, 9, 10, 11, 0, 1, 2, 3]
    assert clusters.plot(torch.ones(12, 4, 4, dtype=torch.uint8), torch.arange(12)).axes[0].images, "images that are all the same"
    many = gradist.Clustering(torch.arange(12)).plot(torch.rand(12, 4, 4), torch.zeros(12))
    assert len(_shown(many)) == 8 and many._repr_png_().startswith(b"\x89PNG")
