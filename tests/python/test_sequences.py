"""Sequences of torch's own layers, which are recorded without a function mode: whatever somebody changed about them still counts."""

import one_by_one
import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

import gradist

EXACT = 1e-10


class Twice(nn.Module):
    def forward(self, x):
        return 2 * x


def sequence():
    """Layers of every kind that is known: images [B, 2, 8, 8] to logits [B, 3]."""
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Conv2d(4, 4, 1), nn.GELU(), nn.AvgPool2d(2),
        nn.Flatten(), nn.LayerNorm(16), nn.Linear(16, 6), nn.Tanh(), nn.Linear(6, 3),
    )  # fmt: skip


def as_it_is(model):
    return model


def hooked(model):
    model[8].register_forward_hook(lambda layer, inputs, output: 3 * output)
    return model


def hooked_before(model):
    model[8].register_forward_pre_hook(lambda layer, inputs: (inputs[0] + 1,))
    return model


def hooked_as_a_whole(model):
    model.register_forward_hook(lambda layer, inputs, output: output.square())
    return model


def replaced_forward(model):
    forward = model[9].forward
    model[9].forward = lambda x: 2 * forward(x)
    return model


def nested(model):
    return nn.Sequential(nn.Sequential(*model[:7]), nn.Sequential(*model[7:]))


def unknown_inside(model):
    return nn.Sequential(*model[:9], Twice(), *model[9:])


def inside_another(model):
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.beside = model, nn.Sequential(nn.Flatten(), nn.Linear(128, 3))

        def forward(self, x):
            return self.body(x) + self.beside(x)

    return Residual()


def layer_used_twice(model):
    model[10] = nn.Linear(6, 6)
    return nn.Sequential(*model, model[10])


def frozen_inside(model):
    model[8].requires_grad_(False)
    return model


def normed_weight(model):
    model[8] = nn.utils.parametrizations.weight_norm(model[8])
    return model


def batch_first_lost(model):
    return nn.Sequential(*model[:6], nn.Flatten(0), nn.Unflatten(0, (-1, 16)), *model[7:])


CHANGES = [
    as_it_is, hooked, hooked_before, hooked_as_a_whole, replaced_forward, nested, unknown_inside, inside_another, layer_used_twice,
    frozen_inside, normed_weight, batch_first_lost,
]  # fmt: skip


def losses(outputs, targets):
    return nn.functional.cross_entropy(outputs, targets, reduction="none")


def make(change):
    torch.manual_seed(1)
    model = change(sequence()).double()
    return model, (torch.randn(5, 2, 8, 8).double(), torch.randint(3, (5,)))


def assert_right(model, loss_fn, data):
    wanted = one_by_one.per_parameter(model, loss_fn, *data)
    squared = one_by_one.flat(wanted).square().sum(dim=1)
    model.zero_grad()
    with gradist.per_example(model) as px:
        loss_fn(model(data[0]), data[1]).sum().backward()
    found = gradist.gradient_norms(model, loss_fn, data)
    for norms in (px.squared_norms(), found.squared_norms):
        assert torch.allclose(norms, squared, rtol=EXACT, atol=0)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            for gradient in (parameter.grad, found.gradient[name]):
                assert torch.allclose(gradient, wanted[name].sum(dim=0), rtol=1e-8, atol=EXACT)
    assert not any("forward" in layer.__dict__ for layer in model.modules() if type(layer) is nn.Sequential)
    return px, found


@pytest.mark.parametrize("change", CHANGES)
def test_sequences_are_measured_as_they_run(change):
    model, data = make(change)
    px, found = assert_right(model, losses, data)
    if change is not batch_first_lost:
        assert "one-by-one" not in {*px.coverage.values(), *found.coverage.values()}


def test_a_loss_that_uses_the_parameters_itself():
    model, data = make(as_it_is)
    assert_right(model, lambda outputs, targets: losses(outputs, targets) * model[10].weight.square().sum(), data)


def test_a_rule_of_ones_own_for_a_known_layer_is_used():
    seen = []

    def rule(layer, inputs, backprops):
        seen.append(layer)
        return {"weight": backprops[:, :, None] * inputs[0][:, None, :], "bias": backprops}

    gradist.rule(nn.Linear)(rule)
    try:
        model, data = make(as_it_is)
        assert_right(model, losses, data)
    finally:
        del gradist.recording._custom_rules[nn.Linear]
    assert set(seen) == {model[8], model[10]}


def test_function_modes_and_global_hooks_of_others_see_every_layer():
    class Seen(TorchFunctionMode):
        def __init__(self):
            self.functions = []

        def __torch_function__(self, func, types, args=(), kwargs=None):
            self.functions.append(func)
            return func(*args, **(kwargs or {}))

    model, data = make(as_it_is)
    with Seen() as seen:
        assert_right(model, losses, data)
    assert {nn.functional.relu_, nn.functional.max_pool2d} & set(seen.functions) or torch.relu_ in seen.functions
    called = []
    hook = nn.modules.module.register_module_forward_hook(lambda layer, inputs, output: called.append(type(layer)))
    try:
        gradist.gradient_norms(model, losses, data)
    finally:
        hook.remove()
    assert {nn.Linear, nn.Conv2d, nn.GELU} <= set(called)
