"""The networks of src/models once more, in plain torch, layer for layer; torchvision's where it has the architecture.

Parameters come in the same order as in the C++ network, so that weights are handed over by position.
"""

import torch
import torchvision
from torch import nn
from torch.nn import functional as F

ACTIVATIONS = {"relu": nn.ReLU, "elu": nn.ELU}


class Block(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut, a 1 x 1 convolution where the shape changes."""

    def __init__(self, inputs, planes, stride, activation):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, planes, 3, stride=stride, padding=1), activation(), nn.Conv2d(planes, planes, 3, padding=1)
        )
        changes = stride > 1 or inputs != planes
        self.shortcut = nn.Conv2d(inputs, planes, 1, stride=stride) if changes else nn.Identity()
        self.activation = activation()

    def forward(self, x):
        return self.activation(self.body(x) + self.shortcut(x))


class Mean(nn.Module):
    def forward(self, x):
        return x.mean(dim=(2, 3))


def cifar_resnet(layers, width, activation, example, outputs):
    blocks = (layers - 2) // 6
    planes = [round(width * each) for each in (16, 32, 64)]
    parts = [nn.Conv2d(example[0], planes[0], 3, padding=1), activation()]
    inputs = planes[0]
    for stage, stride in zip(planes, (1, 2, 2), strict=True):
        for block in range(blocks):
            parts.append(Block(inputs, stage, stride if block == 0 else 1, activation))
            inputs = stage
    return nn.Sequential(*parts, Mean(), nn.Linear(inputs, outputs))


def lenet5(pool, width, activation, example, outputs):
    first, second, *hidden = [round(width * each) for each in (6, 16, 120, 84)]
    side = (example[1] + (4 if example[1] < 32 else 0) - 4) // 2
    side = (side - 4) // 2
    return nn.Sequential(
        nn.Conv2d(example[0], first, 5, padding=2 if example[1] < 32 else 0), activation(), pool(2),
        nn.Conv2d(first, second, 5), activation(), pool(2), nn.Flatten(),
        nn.Linear(second * side**2, hidden[0]), activation(), nn.Linear(*hidden), activation(), nn.Linear(hidden[1], outputs),
    )  # fmt: skip


def cnn(width, activation, example, outputs):
    first, second, hidden = [round(width * each) for each in (32, 64, 2048)]
    side = ((example[1] - 4) // 2 - 4) // 2
    return nn.Sequential(
        nn.Conv2d(example[0], first, 5), activation(), nn.MaxPool2d(2),
        nn.Conv2d(first, second, 5), activation(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(second * side**2, hidden), activation(), nn.Linear(hidden, outputs),
    )  # fmt: skip


def vgg11(width, activation, example, outputs):
    assert width == 1 and activation is nn.ReLU and example[0] == 3
    return nn.Sequential(torchvision.models.vgg11().features, Mean(), nn.Linear(512, outputs))


def make(model, width=1.0, activation="relu", example=(3, 32, 32), outputs=10):
    """The network of this name, in float64."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        rest = (width, ACTIVATIONS[activation], example, outputs)
        if model.startswith("resnet"):
            return cifar_resnet(int(model.removeprefix("resnet")), *rest).double()
        if model.startswith("lenet5"):
            return lenet5(nn.AvgPool2d if model.endswith("average") else nn.MaxPool2d, *rest).double()
        return {"cnn": cnn, "vgg11": vgg11}[model](*rest).double()


def hand_over(network, reference):
    """Gives the reference the C++ network's weights."""
    with torch.no_grad():
        for (name, ours), theirs in zip(network.named_parameters(), reference.parameters(), strict=True):
            assert ours.shape == theirs.shape, name
            theirs.copy_(ours)


def loss(outputs, targets):
    return F.cross_entropy(outputs, targets, reduction="sum")
