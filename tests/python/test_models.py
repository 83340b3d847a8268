"""The networks of the C++ library against the same networks in plain torch, with the same weights."""

import collections
import copy

import pytest
import reference_networks
import torch

import gradist
from gradist import _core

CASES = [
    {"model": "mlp", "example": (1, 9, 7), "hidden": (12, 5)},
    {"model": "mlp", "example": (30,), "hidden": (16,), "activation": "elu", "outputs": 4},
    {"model": "mlp", "example": (30,), "hidden": (16, 8), "norm": "batch"},
    {"model": "logistic", "example": (30,)},
    {"model": "linear", "example": (30,), "outputs": 3},
    {"model": "lenet5"},
    {"model": "lenet5", "example": (1, 28, 28), "activation": "elu"},
    {"model": "lenet5-average", "example": (1, 28, 28)},
    {"model": "cnn", "example": (1, 28, 28), "width": 0.25},
    {"model": "cnn", "example": (1, 28, 28), "width": 0.25, "activation": "elu"},
    {"model": "vgg11", "outputs": 100},
    {"model": "vgg11", "width": 0.5},
    {"model": "vgg11", "width": 0.25, "activation": "elu"},
    {"model": "resnet8"},
    {"model": "resnet8", "width": 0.5, "activation": "elu", "example": (2, 17, 13)},
    {"model": "resnet20", "width": 0.5},
    {"model": "resnet32"},
    {"model": "lenet5", "norm": "batch"},
    {"model": "lenet5-average", "norm": "batch", "example": (1, 28, 28)},
    {"model": "cnn", "norm": "batch", "example": (1, 28, 28), "width": 0.25},
    {"model": "vgg11", "norm": "batch"},
    {"model": "vgg11", "norm": "batch", "width": 0.25, "activation": "elu"},
    {"model": "resnet8", "norm": "batch"},
    {"model": "resnet20", "norm": "batch", "width": 0.5},
    {"model": "resnet20", "norm": "batch", "width": 0.5, "activation": "elu"},
    {"model": "resnet32", "norm": "batch"},
    {"model": "resnet110", "norm": "batch", "width": 0.25},
    {"model": "resnet18-cifar", "width": 0.25},
    {"model": "resnet18-cifar", "norm": "batch", "width": 0.25},
    {"model": "resnet101-cifar", "width": 0.125, "example": (3, 16, 16)},
    {"model": "resnet101-cifar", "norm": "batch", "width": 0.125},
    {"model": "densenet40", "width": 0.25},
    {"model": "densenet40", "norm": "batch"},
    {"model": "densenet40", "norm": "batch", "activation": "elu", "example": (3, 16, 16)},
    {"model": "resnet18", "norm": "batch", "example": (3, 64, 64), "outputs": 1000},
    {"model": "resnet18", "width": 0.25, "example": (3, 64, 48)},
    {"model": "resnet18", "norm": "batch", "activation": "elu"},
    {"model": "resnet50", "norm": "batch", "example": (3, 64, 64), "outputs": 1000},
    {"model": "resnet50", "width": 0.25, "example": (3, 64, 48)},
    {"model": "resnet101", "norm": "batch", "example": (3, 64, 64), "outputs": 1000},
    {"model": "densenet169", "norm": "batch", "example": (3, 64, 64), "outputs": 1000},
    {"model": "densenet169", "width": 0.25, "activation": "elu", "example": (3, 64, 48)},
    {"model": "densenet169", "norm": "batch", "width": 0.25, "example": (3, 64, 48)},
]

PARAMETERS = {
    ("lenet5", "none", 1.0, 10): 62_006,
    ("cnn", "none", 1.0, 10): 2_171_786,
    ("vgg11", "none", 1.0, 10): 9_225_610,
    ("resnet8", "none", 1.0, 10): 77_706,
    ("resnet20", "none", 1.0, 10): 271_690,
    ("resnet32", "none", 1.0, 10): 465_674,
    ("resnet20", "none", 0.5, 10): 68_394,
    ("resnet110", "none", 1.0, 10): 1_726_570,
    ("resnet18-cifar", "none", 1.0, 10): 11_169_162,
    ("resnet101-cifar", "none", 1.0, 10): 42_460_298,
    ("lenet5", "batch", 1.0, 10): 62_436,
    ("cnn", "batch", 1.0, 10): 2_175_978,
    ("vgg11", "batch", 1.0, 10): 9_228_362,
    ("resnet8", "batch", 1.0, 10): 78_042,
    ("resnet20", "batch", 1.0, 10): 272_474,
    ("resnet32", "batch", 1.0, 10): 466_906,
    ("resnet20", "batch", 0.5, 10): 68_786,
    ("resnet110", "batch", 1.0, 10): 1_730_714,
    ("resnet18-cifar", "batch", 1.0, 10): 11_173_962,
    ("resnet101-cifar", "batch", 1.0, 10): 42_512_970,
    ("densenet40", "batch", 1.0, 10): 1_542_682,
    ("resnet18", "batch", 1.0, 1000): 11_689_512,
    ("resnet50", "batch", 1.0, 1000): 25_557_032,
    ("resnet101", "batch", 1.0, 1000): 44_549_160,
    ("densenet169", "batch", 1.0, 1000): 14_149_480,
}
"""Published counts, those of the papers' own text, or the twin's; model, norm, width, outputs -> parameters. docs/models.md."""


def name(case):
    return " ".join(str(value) for value in (case.values() if isinstance(case, dict) else case))


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


def assert_close(actual, expected, scale, label=""):
    """To 1e-10 of the scale: sums of many terms round in proportion to the terms, not to what is left of them."""
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-10 * float(scale), msg=lambda text: f"{label}: {text}")


def assert_outputs_and_gradients_agree(network, reference, inputs, targets):
    """Gradients in the scale of their layer's: a bias before a batch norm has none but what rounding leaves."""
    outputs, expected = network(inputs), reference(inputs)
    assert_close(outputs, expected, expected.detach().abs().max())
    ours, theirs = network.named_parameters(), list(reference.parameters())
    found = torch.autograd.grad(reference_networks.loss(outputs, targets), [each for _, each in ours])
    right = torch.autograd.grad(reference_networks.loss(expected, targets), theirs)
    scales = collections.defaultdict(float)
    for (label, _), gradient in zip(ours, right, strict=True):
        layer = label.rpartition(".")[0]
        scales[layer] = max(scales[layer], gradient.abs().max().item())
    for (label, _), actual, gradient in zip(ours, found, right, strict=True):
        scale = scales[label.rpartition(".")[0]]
        assert scale > 0, label
        assert_close(actual, gradient, scale, label)


@pytest.mark.parametrize("case", CASES, ids=name)
def test_values_and_gradients_are_those_of_the_twin_in_torch(case):
    """In eval mode by running statistics that a pass in train mode left, which are not those of the start."""
    network, reference, options = pair(case)
    network.train()
    reference.train()
    assert_outputs_and_gradients_agree(network, reference, *batch(options, 4))
    network.eval()
    reference.eval()
    assert_outputs_and_gradients_agree(network, reference, *batch(options))


@pytest.mark.parametrize("key", PARAMETERS, ids=name)
def test_networks_and_their_twins_have_the_published_parameters(key):
    model, norm, width, outputs = key
    example = (1, 28, 28) if model == "cnn" else (3, 32, 32) if outputs == 10 else (3, 224, 224)
    options = {"model": model, "norm": norm, "width": width, "example": example, "outputs": outputs}
    with torch.device("meta"):  # only the shapes count
        twin = reference_networks.make(**options)
    network = _core.Network(**options)
    assert sum(each.numel() for each in twin.parameters()) == PARAMETERS[key]
    assert sum(each.numel() for _, each in network.named_parameters()) == PARAMETERS[key]


@pytest.mark.parametrize("model", _core.model_names())
def test_every_network_has_a_twin(model):
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


def test_batch_norm_is_trained_by_the_batch_and_measured_by_running_statistics(cifar_folder):
    options = {"data": "cifar10", "data_dir": cifar_folder, "model": "resnet8", "width": 0.25, "norm": "batch", "batch_size": 16}
    options |= {"iterations": 20, "log_every": 10, "refresh_every": 10, "lr": 0.01, "progress": False}
    with gradist.run(**options) as trace:
        half = trace["sg-b"].average_variance / 2
        torch.testing.assert_close(torch.tensor(trace["sg-2b"].average_variance), torch.tensor(half), rtol=1e-12, atol=0)
        assert trace.trajectory.train_loss[-1] < trace.trajectory.train_loss[0]
        four = trace.trajectory.parameter_hash
        with gradist.run(**options, estimator="sg-b") as one:
            assert (one.trajectory.parameter_hash == four).all()


def test_sparse_data_are_trained_on_and_measured(tmp_path):
    generator = torch.Generator().manual_seed(4)
    for file, examples in (("data", 60), ("data.t", 20)):
        lines = []
        for _ in range(examples):
            columns = torch.randperm(25, generator=generator)[:4].sort().values
            values = torch.randn(4, generator=generator)
            entries = " ".join(f"{column + 1}:{value:.9g}" for column, value in zip(columns.tolist(), values.tolist(), strict=True))
            lines.append(f"{1 if values.sum() > 0 else -1} {entries}\n")
        (tmp_path / file).write_text("".join(lines))
    options = {"data": "libsvm", "data_dir": tmp_path, "model": "logistic", "batch_size": 8, "iterations": 40, "progress": False}
    with gradist.run(**options, log_every=20, refresh_every=20, weight_decay=0.0) as trace:
        half = trace["sg-b"].average_variance / 2
        torch.testing.assert_close(torch.tensor(trace["sg-2b"].average_variance), torch.tensor(half), rtol=1e-12, atol=0)
        assert trace.trajectory.train_loss[-1] < trace.trajectory.train_loss[0]
        assert trace.layers == ("linear.weight", "linear.bias")


def test_images_are_needed_for_convolutions():
    with pytest.raises(ValueError, match="model = resnet8, must be mlp, logistic or linear"):
        gradist.run(data="digits", model="resnet8", progress=False)
