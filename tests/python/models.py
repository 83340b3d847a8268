"""Tiny modules that reach every way a parameter may be used, in float64, with data for them: name -> (model, inputs, targets)."""

import copy

import torch
from torch import nn
from torch.nn import functional as F

CLASSES = 3


class Functional(nn.Module):
    """Uses one layer's weight outside the layer too, and holds a parameter that nobody uses."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.head = nn.Linear(4, CLASSES)
        self.idle = nn.Parameter(torch.ones(2))

    def forward(self, x):
        return self.head(F.linear(torch.tanh(self.layer(x)), self.layer.weight))


class Tied(nn.Module):
    """One layer applied twice, and a second layer that shares its weight."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.second = nn.Linear(4, 4)
        self.second.weight = self.first.weight
        self.head = nn.Linear(4, CLASSES, bias=False)

    def forward(self, x):
        return self.head(self.second(torch.tanh(self.first(torch.tanh(self.first(x))))))


class Tokens(nn.Module):
    """Linear layers on [B, S, I], an embedding and a LayerNorm."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(7, 4)
        self.mix = nn.Linear(4, 5)
        self.norm = nn.LayerNorm(5)
        self.head = nn.Linear(5, CLASSES)

    def forward(self, tokens):
        return self.head(torch.tanh(self.norm(self.mix(self.embedding(tokens))))).mean(dim=1)


def _frozen():
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, CLASSES))
    model[0].weight.requires_grad_(False)
    return model


def _sequential(*layers):
    return lambda: nn.Sequential(*(layer() for layer in layers))


_MAKERS = {
    "mlp": (_sequential(lambda: nn.Linear(4, 6), lambda: nn.ReLU(inplace=True), lambda: nn.Linear(6, CLASSES)), (4,)),
    "convolution": (
        _sequential(lambda: nn.Conv2d(2, 3, 3, padding=1), nn.ReLU, nn.Flatten, lambda: nn.Linear(3 * 4 * 4, CLASSES)),
        (2, 4, 4),
    ),
    "batch norm in eval mode": (
        lambda: nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, CLASSES)).eval(),
        (4,),
    ),
    "attention": (
        lambda: nn.Sequential(
            # No bias: that of the keys has a gradient of zero, and what rounding makes of it has no normalized variance.
            nn.TransformerEncoderLayer(4, 2, 6, dropout=0.0, batch_first=True, bias=False),
            nn.Flatten(),
            nn.Linear(12, CLASSES),
        ),
        (3, 4),
    ),
    "functional": (Functional, (4,)),
    "tied": (Tied, (4,)),
    "tokens": (Tokens, None),
    "frozen": (_frozen, (4,)),
}
NAMES = tuple(_MAKERS)
EXAMPLES = 24


def make(name, examples=EXAMPLES, dtype=torch.float64):
    """The model of this name with its inputs and targets."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        maker, shape = _MAKERS[name]
        model = maker().to(dtype)
        inputs = torch.randint(7, (examples, 3)) if shape is None else torch.randn(examples, *shape, dtype=dtype)
        return model, inputs, torch.randint(CLASSES, (examples,))


def moved(model, step=0.05):
    """A state dict a little away from the model's."""
    other = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in filter(lambda each: each.requires_grad, other.parameters()):
            parameter += step * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
    return other.state_dict()
