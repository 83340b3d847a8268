"""A torch Dataset as `data`: the same numbers as the tensors in it."""

import pytest
import torch
from torch.utils.data import Dataset, IterableDataset, Subset, TensorDataset

import gradist

LOSS = torch.nn.CrossEntropyLoss(reduction="none")
INPUTS = torch.randn(12, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
TARGETS = torch.arange(12) % 3


class Pairs(Dataset):
    """Inputs and whole-number targets, one by one; counts how often it is asked."""

    def __init__(self, pairs):
        self.pairs = pairs
        self.asked = 0

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, index):
        self.asked += 1
        return self.pairs[index]


def model():
    torch.manual_seed(1)
    return torch.nn.Linear(4, 3).double()


def pairs():
    return Pairs([(row, int(target)) for row, target in zip(INPUTS, TARGETS, strict=True)])


@pytest.mark.parametrize("make", [pairs, lambda: TensorDataset(INPUTS, TARGETS)], ids=["pairs", "tensors"])
def test_measures_and_clusters_as_its_tensors(make):
    expected = gradist.measure(model(), LOSS, (INPUTS, TARGETS), estimators=["sg-b"], batch_size=4)
    measured = gradist.measure(model(), LOSS, make(), estimators=["sg-b"], batch_size=4)
    assert torch.equal(measured.squared_norms, expected.squared_norms)
    assert measured["sg-b"].trace_covariance == expected["sg-b"].trace_covariance
    clusters = gradist.cluster(model(), LOSS, make(), k=3)
    assert torch.equal(clusters.assignments, gradist.cluster(model(), LOSS, (INPUTS, TARGETS), k=3).assignments)
    norms = gradist.gradient_norms(model(), LOSS, make()).squared_norms
    assert torch.equal(norms, gradist.gradient_norms(model(), LOSS, (INPUTS, TARGETS)).squared_norms)


def test_every_example_is_read_once():
    data = pairs()
    gradist.measure(model(), LOSS, data, estimators=["sg-b"], batch_size=4)
    assert data.asked == 12


def test_a_subset_has_its_examples_only():
    measured = gradist.measure(model(), LOSS, Subset(pairs(), [2, 5, 7]), estimators=["sg-b"], batch_size=2)
    expected = gradist.measure(model(), LOSS, (INPUTS[[2, 5, 7]], TARGETS[[2, 5, 7]]), estimators=["sg-b"], batch_size=2)
    assert torch.equal(measured.squared_norms, expected.squared_norms)


class Endless(IterableDataset):
    def __iter__(self):
        yield INPUTS[0], 0


@pytest.mark.parametrize(
    "data, message",
    [
        (Endless(), "data is a Endless without a length"),
        (Pairs([]), "must hold at least one example"),
        (Pairs([INPUTS[0]]), "each a pair"),
        (Pairs([(INPUTS[0], 0), (INPUTS[0, :2], 1)]), "that can be stacked"),
        (TensorDataset(INPUTS), "each a pair"),
    ],
    ids=["endless", "empty", "no pairs", "ragged", "no targets"],
)
def test_mistakes_are_value_errors_of_one_line(data, message):
    with pytest.raises(ValueError, match=message) as error:
        gradist.measure(model(), LOSS, data, estimators=["sg-b"], batch_size=2)
    assert "\n" not in str(error.value)
