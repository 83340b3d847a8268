"""Sparse CSR inputs are measured as the same numbers in a dense tensor are."""

import copy

import one_by_one
import pytest
import torch
from torch import nn

import gradist

LOSS = nn.CrossEntropyLoss(reduction="none")
EXAMPLES, FEATURES, CLASSES, BATCH_SIZE = 14, 20, 3, 4


class Product(nn.Module):
    """x W by the operator, which has a rule, or by torch's sparse product, which has none."""

    def __init__(self, operation):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(FEATURES, CLASSES))
        self.operation = operation

    def forward(self, x):
        return self.operation(x, self.weight)


MODELS = {
    "linear": (lambda: nn.Linear(FEATURES, CLASSES), "linear"),
    "network": (lambda: nn.Sequential(nn.Linear(FEATURES, 5, bias=False), nn.Tanh(), nn.Linear(5, CLASSES)), "linear"),
    "product": (lambda: Product(lambda x, weight: x @ weight), "linear"),
    "without a rule": (lambda: Product(lambda x, weight: torch.addmm(weight.new_ones(len(x), CLASSES), x, weight)), "one-by-one"),
}


@pytest.fixture(params=MODELS)
def problem(request):
    """Model, its first parameter's rule, sparse data, and the same data dense; some examples have no feature at all."""
    torch.manual_seed(2)
    make, rule = MODELS[request.param]
    inputs = torch.randn(EXAMPLES, FEATURES, dtype=torch.float64) * (torch.rand(EXAMPLES, FEATURES) < 0.2)
    inputs[[0, 5, EXAMPLES - 1]] = 0
    targets = torch.arange(EXAMPLES) % CLASSES
    return make().double(), rule, (inputs.to_sparse_csr(), targets), (inputs, targets)


def near(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-12)


def test_moments_are_those_of_dense_inputs(problem):
    model, rule, sparse, dense = problem
    snapshot = {name: each + 0.1 for name, each in model.state_dict().items()}
    options = {"estimators": ["sg-b", "svrg", "gc"], "batch_size": BATCH_SIZE, "snapshot": snapshot}
    found, expected = gradist.measure(model, LOSS, sparse, **options), gradist.measure(model, LOSS, dense, **options)
    for name in expected:
        assert found[name].average_variance == pytest.approx(expected[name].average_variance, rel=1e-10), name
    near(found.squared_norms, expected.squared_norms)
    assert next(iter(found.coverage.values())) == rule
    clusters = [gradist.cluster(model, LOSS, data, BATCH_SIZE).assignments for data in (sparse, dense)]
    assert torch.equal(*clusters)


def test_one_pass_says_the_gradients_of_dense_inputs(problem):
    model, rule, (inputs, targets), dense = problem
    plain = copy.deepcopy(model)
    LOSS(plain(dense[0]), targets).sum().backward()
    with gradist.per_example(model) as px:
        LOSS(model(inputs), targets).sum().backward()
    assert next(iter(px.coverage.values())) == rule
    for name, expected in one_by_one.per_parameter(plain, LOSS, *dense).items():
        near(px.gradients()[name], expected)
        near(model.get_parameter(name).grad, plain.get_parameter(name).grad)
    assert gradist.check(model, LOSS, (inputs, targets)).ok


@pytest.mark.parametrize("chunk", [EXAMPLES, 3])
def test_chunks_are_rows_of_the_sparse_inputs(problem, chunk):
    model, _, sparse, dense = problem
    found = gradist.gradient_norms(model, LOSS, sparse, chunk=chunk)
    gradients = one_by_one.per_parameter(model, LOSS, *dense)
    near(found.squared_norms, one_by_one.flat(gradients).square().sum(1))
    for name, expected in gradients.items():
        near(found.gradient[name], expected.sum(0))


def test_libsvm_files_are_measured_as_they_are_loaded(tmp_path):
    for file in ("data", "data.t"):
        (tmp_path / file).write_text("+1 1:0.5 7:-1\n-1 2:2\n+1\n-1 3:0.25 7:1\n")
    inputs, targets = gradist.load_data("libsvm", tmp_path).train
    assert inputs.layout == torch.sparse_csr
    model = nn.Linear(7, 2)
    found, expected = (
        gradist.measure(model, LOSS, (each, targets), estimators="sg-b", batch_size=2) for each in (inputs, inputs.to_dense())
    )
    assert found["sg-b"].average_variance == pytest.approx(expected["sg-b"].average_variance, rel=1e-6)


def test_other_sparse_layouts_are_refused_in_one_line():
    inputs, targets = torch.eye(4), torch.zeros(4, dtype=torch.long)
    for other in (inputs.to_sparse(), inputs.to_sparse_csc()):
        with pytest.raises(ValueError, match=r"torch.sparse_\w+ of shape \[4, 4\], must be dense or sparse CSR \[N, features\]") as error:
            gradist.measure(nn.Linear(4, 2), LOSS, (other, targets), batch_size=2)
        assert "\n" not in str(error.value)
