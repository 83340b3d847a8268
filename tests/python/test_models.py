"""The networks of the C++ library against the same networks in plain torch, with the same weights."""

import copy

import pytest
import reference_networks
import torch

import gradist
from gradist import _core

CASES = [
    {"model": "lenet5"},
    {"model": "lenet5", "example": (1, 28, 28), "activation": "elu"},
    {"model": "lenet5-average", "example": (1, 28, 28)},
    {"model": "cnn", "example": (1, 28, 28), "width": 0.25},
    {"model": "vgg11", "outputs": 100},
    {"model": "resnet8"},
    {"model": "resnet8", "width": 0.5, "activation": "elu", "example": (2, 17, 13)},
    {"model": "resnet20", "width": 0.5},
    {"model": "resnet32"},
]


def name(case):
    return " ".join(str(value) for value in case.values())


def pair(case):
    """The C++ network and its twin in float64, with the same weights."""
    options = {"example": (3, 32, 32), "outputs": 10} | case
    network = _core.Network(**options, init="he")
    network.double()
    reference = reference_networks.make(**case)
    reference_networks.hand_over(network, reference)
    return network, reference, options


def batch(options, size=3):
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(size, *options["example"], dtype=torch.float64, generator=generator)
    return inputs, torch.randint(options["outputs"], (size,), generator=generator)


@pytest.mark.parametrize("case", CASES, ids=name)
def test_values_and_gradients_are_those_of_the_twin_in_torch(case):
    network, reference, options = pair(case)
    inputs, targets = batch(options)
    outputs, expected = network(inputs), reference(inputs)
    torch.testing.assert_close(outputs, expected, rtol=1e-10, atol=1e-10)
    reference_networks.loss(outputs, targets).backward()
    reference_networks.loss(expected, targets).backward()
    for (label, ours), theirs in zip(network.named_parameters(), reference.parameters(), strict=True):
        scale = theirs.grad.abs().max().item()
        assert scale > 0, label
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-10, atol=1e-10 * scale, msg=lambda text, label=label: f"{label}: {text}")


@pytest.mark.parametrize("model", [each for each in _core.model_names() if each not in ("mlp", "logistic", "linear")])
def test_every_network_for_images_has_a_twin(model):
    assert any(case["model"] == model for case in CASES)


def test_float32_agrees_to_its_precision():
    network, reference, options = pair({"model": "resnet8"})
    inputs, _ = batch(options, 16)
    single = copy.deepcopy(reference).float()
    plain = _core.Network(example=(3, 32, 32), outputs=10, model="resnet8", init="he")
    exact = network(inputs)
    scale = exact.abs().max().item()
    for outputs in (plain(inputs.float()), single(inputs.float())):
        torch.testing.assert_close(outputs.double(), exact, rtol=0, atol=1e-5 * scale)


@pytest.fixture(scope="module")
def cifar_folder(tmp_path_factory):
    """CIFAR-10's files with 96 random training records, bright where the class is high, and 32 of test."""
    folder = tmp_path_factory.mktemp("cifar")
    generator = torch.Generator().manual_seed(3)
    for file, size in (("data_batch_1.bin", 64), ("data_batch_2.bin", 32), ("test_batch.bin", 32)):
        labels = torch.randint(10, (size, 1), generator=generator)
        pixels = torch.randint(64, (size, 3072), generator=generator) + 15 * labels
        (folder / file).write_bytes(torch.cat([labels, pixels], 1).to(torch.uint8).numpy().tobytes())
    return folder


def test_a_residual_network_is_trained_and_measured(cifar_folder):
    options = {"data": "cifar10", "data_dir": cifar_folder, "model": "resnet8", "width": 0.25, "init": "he", "batch_size": 16}
    options |= {"iterations": 20, "log_every": 10, "refresh_every": 10, "lr": 0.01, "progress": False}
    with gradist.run(**options) as trace:
        assert trace.config["model"] == "resnet8" and trace.config["width"] == 0.25
        half = trace["sg-b"].average_variance / 2
        torch.testing.assert_close(torch.tensor(trace["sg-2b"].average_variance), torch.tensor(half), rtol=1e-12, atol=0)
        assert trace.trajectory.train_loss[-1] < trace.trajectory.train_loss[0]
        # The snapshot is fresh at the points 0, 10 and 20, and its variance is zero there.
        assert (trace["svrg"].average_variance == 0).all()


def test_images_are_needed_for_convolutions():
    with pytest.raises(ValueError, match="model = resnet8, must be mlp, logistic or linear"):
        gradist.run(data="digits", model="resnet8", progress=False)
