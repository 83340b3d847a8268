import models
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import gradist

LOSS = nn.CrossEntropyLoss(reduction="none")
ASSIGNMENTS = [0, 2, 2, 0, 2, 2, 3, 0, 2, 2]  # sizes 3, 0, 6, 1


@pytest.mark.parametrize("allocation, draws", [("proportional", [2, 0, 3, 1]), ("equal", [2, 0, 2, 2])])
def test_draws_of_every_cluster(allocation, draws):
    sampler = gradist.StratifiedBatchSampler(gradist.Clustering(ASSIGNMENTS), 6, allocation=allocation)
    assert sampler.draws.tolist() == draws
    for batch in sampler:
        assert torch.bincount(torch.tensor(ASSIGNMENTS)[batch], minlength=4).tolist() == draws


@pytest.mark.parametrize("replacement", [True, False])
def test_weights_make_the_estimate_unbiased(replacement):
    sampler = gradist.StratifiedBatchSampler(gradist.Clustering(ASSIGNMENTS), 4, replacement=replacement)
    # An example of cluster k comes b_k / N_k times a batch on average, with or without replacement.
    expected = (sampler.draws / sampler.clusters.sizes)[torch.tensor(ASSIGNMENTS)]
    torch.testing.assert_close(sampler.weights * expected, torch.full((10,), 0.1), rtol=1e-6, atol=0)


def test_without_replacement_no_batch_has_an_example_twice():
    sampler = gradist.StratifiedBatchSampler(gradist.Clustering(ASSIGNMENTS), 8, batches=50, replacement=False)
    for batch in sampler:
        assert len(set(batch)) == 8


def test_length_seed_and_new_clusters():
    clusters = gradist.Clustering(ASSIGNMENTS)
    first, again, other = (gradist.StratifiedBatchSampler(clusters, 4, batches=20, seed=seed) for seed in (1, 1, 2))
    assert len(first) == 20 and len(gradist.StratifiedBatchSampler(clusters, 4)) == 2
    batches = list(first)
    assert batches == list(again) and batches != list(other)
    assert list(first) != batches  # it goes on
    first.clusters = gradist.Clustering([0, 1] * 5)
    assert first.draws.tolist() == [2, 2]


def test_neyman_needs_clusters_made_from_gradients():
    model, inputs, targets = models.make("mlp", examples=80)
    clusters = gradist.cluster(model, LOSS, (inputs, targets), k=8, method="descent")
    sampler = gradist.StratifiedBatchSampler(clusters, 20, allocation="neyman")
    assert sampler.draws.sum() == 20
    measured = [
        gradist.measure(model, LOSS, (inputs, targets), estimators=["gc"], batch_size=20, clustering=clusters, allocation=each)["gc"]
        for each in ("neyman", "proportional", "equal")
    ]
    assert measured[0].trace_covariance == pytest.approx((clusters.scatter / sampler.draws.clamp_min(1)).sum().item() / 80**2, rel=1e-9)
    assert measured[0].trace_covariance <= min(each.trace_covariance for each in measured[1:])
    with pytest.raises(ValueError, match="allocation = neyman"):
        gradist.StratifiedBatchSampler(gradist.Clustering(ASSIGNMENTS), 6, allocation="neyman")


def test_in_a_data_loader_with_weights_by_the_example():
    model, inputs, targets = models.make("mlp", examples=80)
    sampler = gradist.StratifiedBatchSampler(gradist.cluster(model, LOSS, (inputs, targets), k=8), 16, batches=3)
    loader = DataLoader(TensorDataset(inputs, targets, sampler.weights), batch_sampler=sampler)
    for x, y, weights in loader:
        (weights * LOSS(model(x), y)).sum().backward()
        assert len(x) == 16 and weights.sum() == pytest.approx(1, rel=1e-6)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"batch_size": 2}, "draws = 2"),
        ({"batches": 0}, "batches = 0"),
        ({"seed": -1}, "seed = -1"),
        ({"allocation": "fair"}, "allocation = fair"),
        ({"clusters": [0, 1]}, "clusters is a list"),
        ({"batch_size": 11, "replacement": False}, "draws = 11"),
    ],
)
def test_mistakes(change, message):
    with pytest.raises(ValueError, match=message):
        gradist.StratifiedBatchSampler(**{"clusters": gradist.Clustering(ASSIGNMENTS), "batch_size": 4, **change})
