"""Linear layers' products by AMX: the same numbers as by torch, for any model, in gradist's own loop and in the user's."""

import copy

import one_by_one
import pytest
import torch
from torch import nn

import gradist
from gradist import _core
from gradist.probe import ModelSource
from gradist.recording import recorded

pytestmark = pytest.mark.skipif(not _core.has_amx(), reason="no AMX here")

EXAMPLES, POSITIONS, WIDTH = 6, 128, 64  # enough rows, and wide enough for AMX to have fewer operations
SINGLE = 1e-5


class Penalized(nn.Module):
    """Has a gradient of its own in its output."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh(), nn.Linear(WIDTH, WIDTH))

    def forward(self, x):
        x = x.detach().requires_grad_()
        y = self.inner(x)
        (slope,) = torch.autograd.grad(y.sum(), x, create_graph=True)
        return y + slope


class Mapped(nn.Module):
    """Runs its layer by torch.func.vmap."""

    def __init__(self):
        super().__init__()
        self.before, self.inner = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        return torch.func.vmap(self.inner)(self.before(x).tanh())


class Jacobian(nn.Module):
    """Differentiates its recorded layer for a batch of directions at once."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        y = self.inner(x).sin()
        directions = torch.stack([torch.ones_like(y), y.detach()])
        (slopes,) = torch.autograd.grad(y, x, directions, is_grads_batched=True, create_graph=True)
        return y + slopes.sum(dim=0)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, 4, batch_first=True)

    def forward(self, x):
        return x + self.attention(x, x, x, need_weights=False)[0]


class Multiplied(nn.Module):
    """A product with a matrix, and an activation in place."""

    def __init__(self):
        super().__init__()
        self.matrix = nn.Parameter(torch.randn(WIDTH, 80) / 8)

    def forward(self, x):
        return torch.relu_(x @ self.matrix)


MODELS = {
    "sequence": lambda: nn.Sequential(nn.Linear(WIDTH, 100), nn.Tanh(), nn.Linear(100, WIDTH)),
    "layer norm": lambda: nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 128, bias=False), nn.GELU(), nn.Linear(128, 64)),
    "attention": Attention,
    "penalized": Penalized,
    "mapped": Mapped,
    "jacobian": lambda: nn.Sequential(nn.Linear(WIDTH, WIDTH), Jacobian()),
    "multiplied": Multiplied,
    "tied": lambda: (lambda layer: nn.Sequential(layer, nn.Tanh(), layer))(nn.Linear(WIDTH, WIDTH)),
}


def squared_error(outputs, targets):
    return (outputs.tanh().mean(dim=(1, 2)) - targets).square()


def problem(name):
    torch.manual_seed(3)
    model = MODELS[name]()
    return model, torch.randn(EXAMPLES, POSITIONS, WIDTH), 3 * torch.randn(EXAMPLES)


BACKPROPS = {"plain_backprops": False}  # as in the user's loop
ALL = {"plain_outputs": False, "plain_backprops": False}  # as in gradist's own
PRODUCTS = pytest.mark.parametrize("products", [BACKPROPS, ALL], ids=["backprops", "all"])


def measured(model, inputs, targets, products):
    """By the count of operations, of which AMX has fewer here."""
    source = ModelSource(model, squared_error, (inputs, targets))
    tape = _core.Tape(examples=EXAMPLES, reduce=True, choices=_core.MethodChoices(), **products)
    with recorded(source.layers, tape):
        losses = source.losses(torch.arange(EXAMPLES))
    return source.parameter_names, tape.backward_reduced(losses, source.parameters, lambda i: source.losses(torch.tensor([i]))[0])


@PRODUCTS
@pytest.mark.parametrize("name", MODELS)
def test_norms_and_gradient_are_those_of_one_by_one_autograd(name, products):
    model, inputs, targets = problem(name)
    names, found = measured(model, inputs, targets, products)
    wanted = one_by_one.per_parameter(copy.deepcopy(model).double(), squared_error, inputs.double(), targets.double())
    assert names == list(wanted)
    for each, rows in zip(found.parameters, wanted.values(), strict=True):
        norms = rows.reshape(EXAMPLES, -1).square().sum(dim=1)
        assert (each.squared_norms.double() - norms).abs().max() <= 2 * SINGLE * norms.max()
        assert (each.sum.double() - rows.sum(dim=0)).norm() <= SINGLE * norms.sqrt().sum()


def sums(name, products):
    return [each.sum for each in measured(*problem(name), products)[1].parameters]


WITHIN = MODELS.keys() - {"penalized", "jacobian"}  # their examples run one by one
SEVERAL = WITHIN - {"multiplied", "mapped"}  # these have no recorded layer above another


@pytest.mark.parametrize("name, products", [(each, ALL) for each in sorted(WITHIN)] + [(each, BACKPROPS) for each in sorted(SEVERAL)])
def test_numbers_are_rounded_otherwise_than_torch_does(name, products):
    """So that the tests here see AMX at work, and the same bits each time."""
    plain, by_amx = sums(name, {}), sums(name, products)
    assert not all(map(torch.equal, plain, by_amx))
    assert all(map(torch.equal, by_amx, sums(name, products)))


def test_under_autocast_layers_are_torchs():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert all(map(torch.equal, sums("sequence", {}), sums("sequence", ALL)))


def test_outputs_in_the_users_loop_have_torchs_bits():
    model, inputs, _ = problem("sequence")
    with gradist.per_example(model) as px:
        outputs = model(inputs)
        outputs.sum().backward()
    assert torch.equal(outputs, model(inputs))
    assert px.squared_norms().isfinite().all()
    assert any(each.startswith("backprops of linear") for each in gradist.choices.choices)


def test_the_caller_sees_no_difference_but_in_the_last_digits():
    model, inputs, targets = problem("sequence")
    n = gradist.gradient_norms(model, squared_error, (inputs, targets))
    loss = squared_error(model(inputs), targets).sum()
    loss.backward()
    for name, parameter in model.named_parameters():
        assert torch.allclose(n.gradient[name], parameter.grad, rtol=1e-4, atol=SINGLE * parameter.grad.abs().max().item())
