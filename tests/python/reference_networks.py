"""The networks of src/models once more, in plain torch, layer for layer; torchvision's where it has the architecture.

Parameters come in the same order as in the C++ network, also torchvision's: weights are handed over by position.
"""

import math
import re

import torch
import torchvision
from torch import nn
from torch.nn import functional as F
from torchvision.models import vgg

ACTIVATIONS = {"relu": nn.ReLU, "elu": nn.ELU}


class Parts:
    """What differs with the options: widths, activation, and the bias or the batch norm of a layer."""

    def __init__(self, width=1.0, activation="relu", norm="none"):
        self.width, self.activation, self.norm = width, ACTIVATIONS[activation], norm == "batch"

    def scaled(self, *widths):
        return [round(self.width * each) for each in widths]

    def convolution(self, inputs, planes, kernel, **window):
        return nn.Conv2d(inputs, planes, kernel, bias=not self.norm, **window)

    def normalized(self, planes, one_dimension=False):
        kind = nn.BatchNorm1d if one_dimension else nn.BatchNorm2d
        return [kind(planes)] if self.norm else []

    def block(self, inputs, planes, kernel, **window):
        """Convolution, batch norm, activation."""
        return [self.convolution(inputs, planes, kernel, **window), *self.normalized(planes), self.activation()]

    def linear(self, inputs, outputs):
        return [nn.Linear(inputs, outputs), *self.normalized(outputs, one_dimension=True), self.activation()]


class Mean(nn.Module):
    def forward(self, x):
        return x.mean(dim=(2, 3))


class Residual(nn.Module):
    """body(x) + shortcut(x), then the activation."""

    def __init__(self, body, shortcut, activation):
        super().__init__()
        self.body, self.shortcut, self.activation = nn.Sequential(*body), nn.Sequential(*shortcut), activation()

    def forward(self, x):
        return self.activation(self.body(x) + self.shortcut(x))


class Dense(nn.Module):
    """x and what the layers make of it."""

    def __init__(self, layers):
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x):
        return torch.cat([x, self.layers(x)], dim=1)


def residual(parts, inputs, planes, stride, bottleneck):
    outputs = 4 * planes if bottleneck else planes
    if bottleneck:
        body = parts.block(inputs, planes, 1) + parts.block(planes, planes, 3, stride=stride, padding=1)
        last = parts.convolution(planes, outputs, 1)
    else:
        body = parts.block(inputs, planes, 3, stride=stride, padding=1)
        last = parts.convolution(planes, outputs, 3, padding=1)
    shortcut = []
    if stride > 1 or inputs != outputs:
        shortcut = [parts.convolution(inputs, outputs, 1, stride=stride), *parts.normalized(outputs)]
    return Residual([*body, last, *parts.normalized(outputs)], shortcut, parts.activation), outputs


def resnet(parts, example, outputs, first, blocks, bottleneck=False, large=False):
    (inputs,) = parts.scaled(first)
    layers = parts.block(example[0], inputs, 3, padding=1)
    if large:
        layers = [*parts.block(example[0], inputs, 7, stride=2, padding=3), nn.MaxPool2d(3, stride=2, padding=1)]
    for stage, count in enumerate(blocks):
        (planes,) = parts.scaled(first * 2**stage)
        for block in range(count):
            layer, inputs = residual(parts, inputs, planes, 2 if stage > 0 and block == 0 else 1, bottleneck)
            layers.append(layer)
    return nn.Sequential(*layers, Mean(), nn.Linear(inputs, outputs))


def densenet(parts, example, outputs, first, blocks, large=False):
    (growth,) = parts.scaled(first)
    planes = 2 * growth
    layers = [parts.convolution(example[0], planes, 3, padding=1)]
    if large:
        layers = [*parts.block(example[0], planes, 7, stride=2, padding=3), nn.MaxPool2d(3, stride=2, padding=1)]
    for block, count in enumerate(blocks):
        if block > 0:
            layers += [*parts.normalized(planes), parts.activation(), parts.convolution(planes, planes // 2, 1), nn.AvgPool2d(2)]
            planes //= 2
        for _ in range(count):
            inside = [*parts.normalized(planes), parts.activation(), *parts.block(planes, 4 * growth, 1)]
            layers.append(Dense([*inside, parts.convolution(4 * growth, growth, 3, padding=1)]))
            planes += growth
    return nn.Sequential(*layers, *parts.normalized(planes), parts.activation(), Mean(), nn.Linear(planes, outputs))


def densenet40(parts, example, outputs):
    return densenet(parts, example, outputs, 36, [6, 6, 6])


def densenet169(parts, example, outputs):
    return densenet(parts, example, outputs, 32, [6, 12, 32, 32], large=True)


def lenet5(parts, example, outputs, pool=nn.MaxPool2d):
    first, second, *hidden = parts.scaled(6, 16, 120, 84)
    padding = 2 if example[1] < 32 else 0
    side = ((example[1] + 2 * padding - 4) // 2 - 4) // 2
    return nn.Sequential(
        *parts.block(example[0], first, 5, padding=padding), pool(2), *parts.block(first, second, 5), pool(2), nn.Flatten(),
        *parts.linear(second * side**2, hidden[0]), *parts.linear(*hidden), nn.Linear(hidden[1], outputs),
    )  # fmt: skip


def mlp(parts, example, outputs, hidden=()):
    layers, inputs = [nn.Flatten()], math.prod(example)
    for width in hidden:
        layers += parts.linear(inputs, width)
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, outputs))


def cnn(parts, example, outputs):
    first, second, hidden = parts.scaled(32, 64, 2048)
    side = ((example[1] - 4) // 2 - 4) // 2
    return nn.Sequential(
        *parts.block(example[0], first, 5), nn.MaxPool2d(2), *parts.block(first, second, 5), nn.MaxPool2d(2), nn.Flatten(),
        *parts.linear(second * side**2, hidden), nn.Linear(hidden, outputs),
    )  # fmt: skip


def vgg11(parts, example, outputs):
    """torchvision's convolutions and pooling, at another width and with another activation."""
    assert example[0] == 3
    plan = [each if each == "M" else parts.scaled(each)[0] for each in vgg.cfgs["A"]]
    layers = vgg.make_layers(plan, parts.norm)
    for place, layer in enumerate(layers):
        if isinstance(layer, nn.ReLU):
            layers[place] = parts.activation()
        elif parts.norm and isinstance(layer, nn.Conv2d):
            layer.bias = None  # torchvision keeps a bias before batch norm, which takes it out again
    return nn.Sequential(layers, Mean(), nn.Linear(plan[-2], outputs))


TORCHVISION = ("resnet18", "resnet50", "resnet101", "densenet169")
BLOCKS = {18: [2, 2, 2, 2], 50: [3, 4, 6, 3], 101: [3, 4, 23, 3]}


def make(model, width=1.0, activation="relu", norm="none", example=(3, 32, 32), outputs=10, hidden=()):
    """The network of this name, in float64 and eval mode."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        parts = Parts(width, activation, norm)
        if model in TORCHVISION and (width, activation, norm) == (1, "relu", "batch"):
            return getattr(torchvision.models, model)(num_classes=outputs).double().eval()
        if model.startswith("resnet"):
            layers = int(re.match(r"resnet(\d+)", model)[1])
            if layers in BLOCKS:
                shape = {"bottleneck": layers >= 50, "large": not model.endswith("cifar")}
                made = resnet(parts, example, outputs, 64, BLOCKS[layers], **shape)
            else:
                made = resnet(parts, example, outputs, 16, [(layers - 2) // 6] * 3)
        elif model in ("mlp", "logistic", "linear"):
            made = mlp(parts, example, outputs, hidden)
        elif model.startswith("lenet5"):
            made = lenet5(parts, example, outputs, nn.AvgPool2d if model.endswith("average") else nn.MaxPool2d)
        else:
            kinds = {"cnn": cnn, "vgg11": vgg11, "densenet40": densenet40, "densenet169": densenet169}
            made = kinds[model](parts, example, outputs)
        return made.double().eval()


def hand_over(network, reference):
    """Gives the reference the C++ network's weights and running statistics."""
    with torch.no_grad():
        for ours_all, theirs_all in (
            (network.named_parameters(), reference.parameters()),
            (network.named_buffers(), (each for each in reference.buffers() if each.dim() > 0)),
        ):
            for (name, ours), theirs in zip(ours_all, theirs_all, strict=True):
                assert ours.shape == theirs.shape, name
                theirs.copy_(ours)


def loss(outputs, targets):
    return F.cross_entropy(outputs, targets, reduction="sum")
