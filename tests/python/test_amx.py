"""gradist's own loop with linear layers by AMX: the same numbers as by torch, for any model."""

import copy
import sys

import one_by_one
import pytest
import torch
from torch import nn

import gradist
from gradist import _core
from gradist.probe import ModelSource

Setting = sys.modules["gradist.gradient_norms"]._Setting

pytestmark = pytest.mark.skipif(not _core.has_amx(), reason="no AMX here")

EXAMPLES, POSITIONS, WIDTH = 6, 128, 64  # enough rows and wide enough for AMX
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


def measured(model, inputs, targets, by_amx):
    source = ModelSource(model, squared_error, (inputs, targets))
    source.by_amx = by_amx
    return source.parameter_names, source.reduced(0, len(targets), _core.MethodChoices())


@pytest.mark.parametrize("name", MODELS)
def test_norms_and_gradient_are_those_of_one_by_one_autograd(name):
    model, inputs, targets = problem(name)
    names, found = measured(model, inputs, targets, by_amx=True)
    wanted = one_by_one.per_parameter(copy.deepcopy(model).double(), squared_error, inputs.double(), targets.double())
    assert names == list(wanted)
    for each, rows in zip(found.parameters, wanted.values(), strict=True):
        norms = rows.reshape(EXAMPLES, -1).square().sum(dim=1)
        assert (each.squared_norms.double() - norms).abs().max() <= 2 * SINGLE * norms.max()
        assert (each.sum.double() - rows.sum(dim=0)).norm() <= SINGLE * norms.sqrt().sum()


def sums(name, by_amx):
    return [each.sum for each in measured(*problem(name), by_amx)[1].parameters]


@pytest.mark.parametrize("name", sorted(MODELS.keys() - {"penalized", "jacobian"}))  # their examples run one by one
def test_numbers_are_rounded_otherwise_than_torch_does(name):
    """So that the tests here see AMX at work, and the same bits each time."""
    plain, by_amx = sums(name, False), sums(name, True)
    assert not all(map(torch.equal, plain, by_amx))
    assert all(map(torch.equal, by_amx, sums(name, True)))


def test_under_autocast_layers_are_torchs():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert all(map(torch.equal, sums("sequence", False), sums("sequence", True)))


@pytest.mark.parametrize("format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("by_amx", [False, True])
def test_a_setting_is_what_the_table_of_choices_says(format, by_amx):
    setting = Setting(4, format, by_amx)
    assert Setting.of(setting.way, 9) == setting
    assert Setting.of(setting.way, 3) == Setting(3, format, by_amx)


def test_gradient_norms_takes_amx_where_it_is_worth_it(monkeypatch):
    """Times are made up: what is faster is for benchmarks."""
    search = sys.modules["gradist.gradient_norms"]
    model, inputs, targets = problem("sequence")
    for seconds, taken in ((0.9, True), (0.99, False)):
        monkeypatch.setattr(search._Search, "_seconds", lambda _, setting, s=seconds: s if setting.by_amx else 1.0)
        tried = search._tried(ModelSource(model, squared_error, (inputs, targets)), limit=EXAMPLES, chunk=EXAMPLES)
        assert tried.by_amx is taken


def test_the_caller_sees_no_difference_but_in_the_last_digits():
    model, inputs, targets = problem("sequence")
    n = gradist.gradient_norms(model, squared_error, (inputs, targets))
    loss = squared_error(model(inputs), targets).sum()
    loss.backward()
    for name, parameter in model.named_parameters():
        assert torch.allclose(n.gradient[name], parameter.grad, rtol=1e-4, atol=SINGLE * parameter.grad.abs().max().item())
