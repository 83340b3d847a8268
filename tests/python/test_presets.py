"""Every preset is an experiment that runs. Here the small ones begin, on a few hundred images cut from the real files;
`scripts/nightly.sh` (marker `nightly`) runs them in full."""

import gzip
import os
import tomllib
from pathlib import Path

import numpy as np
import pytest

import gradist
from gradist import _core

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
PRESETS = {name: (source, data, time) for name, source, data, time in _core.run_presets()}
RF_PRESETS = [name for name, *_ in _core.rf_presets()]
SMALL = [name for name in PRESETS if name.endswith(":small")]

IMAGES = 600
CIFAR_RECORD = 1 + 3 * 32 * 32
# Two steps and everything there is to refresh and measure, by as few examples or draws as there may be.
CUT = {"iterations": 2, "log_every": 2, "log_at": [], "refresh_every": 2, "measure_examples": 512, "draws": 3}


def data_set(preset):
    """The data set a preset needs, "" for the bundled digits."""
    data = PRESETS[preset][1]
    return data.split(":")[0] if ":" in data else ""


def real_folder(preset):
    folder = SHARED / data_set(preset)
    if not folder.is_dir():
        pytest.skip(f"<repo>/../shared/data/{data_set(preset)} is missing")
    return folder


def options_for(preset, folder):
    return {"data_dir": os.fspath(folder)} if data_set(preset) else {}


def contents(folder, name):
    """A file's bytes, plain or compressed."""
    plain = folder / name
    return plain.read_bytes() if plain.exists() else gzip.decompress((folder / f"{name}.gz").read_bytes())


@pytest.fixture(scope="session")
def few_images(tmp_path_factory):
    """Folders like the real ones with the first images of their files."""

    def mnist(real, folder):
        for part in ("train", "t10k"):
            for kind, header, size in (("images-idx3-ubyte", 16, 28 * 28), ("labels-idx1-ubyte", 8, 1)):
                name = f"{part}-{kind}"
                whole = contents(real, name)
                count = IMAGES.to_bytes(4, "big")
                (folder / name).write_bytes(whole[:4] + count + whole[8 : header + IMAGES * size])

    def cifar10(real, folder):
        records = contents(real, "data_batch_1.bin")
        (folder / "data_batch_1.bin").write_bytes(records[: IMAGES * CIFAR_RECORD])
        (folder / "test_batch.bin").write_bytes(records[-20 * CIFAR_RECORD :])

    cut, made = {"mnist": mnist, "cifar10": cifar10}, {}

    def folder_for(preset):
        name = data_set(preset)
        if name and name not in made:
            real = real_folder(preset)
            made[name] = tmp_path_factory.mktemp(name)
            cut[name](real, made[name])
        return made.get(name)

    return folder_for


EPOCH = 50_000 // 128  # steps of CIFAR

# [Faghri20] Table 2 (B, Log T, Estim T), Figs. 3 and 7 (estimators); appendix C.1 (weight decay)
FAGHRI = {"batch-size": 128, "log-every": 500, "draws": 50, "estimator": ["sg-b", "sg-2b", "svrg", "gc"], "weight-decay": 5e-4}
# Table 2 (T, U, GC T); appendix C.1 (momentum, decay of the learning rate)
FAGHRI_CIFAR = FAGHRI | {"iterations": 80_000, "refresh-every": 20_000, "gc-iterations": 3}
FAGHRI_CIFAR |= {"momentum": 0.9, "lr-drop": [40_000, 60_000], "lr-drop-factor": 0.1}
RESNET8 = FAGHRI_CIFAR | {"data": "cifar10", "model": "resnet8", "norm": "none", "lr": 0.01}
RESNET32 = FAGHRI_CIFAR | {"data": "cifar100", "model": "resnet32", "lr": 0.1}

# [Defazio19] section 3, "for all methods"; the data are those of its figures, the transforms section 2's
DEFAZIO = {"data": "cifar10", "augment": "crop-flip", "norm": "batch", "replacement": False}
DEFAZIO |= {"batch-size": 128, "lr": 0.1, "lr-drop-factor": 0.1, "momentum": 0.9, "weight-decay": 1e-4}
# Section 4 (a snapshot an epoch), section 2 (locked transforms, batch norm reset)
DEFAZIO_SVRG = DEFAZIO | {"drive": "svrg", "estimator": ["sg-b", "svrg"], "refresh-every": EPOCH}
DEFAZIO_SVRG |= {"transform-locking": "on", "batch-norm": "reset", "iterate-averaging": 0.0}
# Section 3 (a pass over the data, decreases at 150 and 220 epochs), Fig. 3 (epoch 50)
VARIANCE_RATIO = DEFAZIO_SVRG | {"measure": "sampled", "draws": EPOCH, "lr-drop": [150 * EPOCH, 220 * EPOCH], "drift-every": 50}
# Fig. 1: a run ends with epoch two
LOCKING = DEFAZIO_SVRG | {"model": "lenet5", "measure": "sampled", "draws": EPOCH, "iterations": 2 * EPOCH, "lr-drop": []}
# Section 8 (reductions at 150 and 225 epochs)
DEFAZIO_SGD = DEFAZIO | {"drive": "none", "lr-drop": [150 * EPOCH, 225 * EPOCH]}

# [Apostolov21] section 4.1 (seed), equations 2.5 and 2.6 (steps without momentum or decay); no schedule is mentioned
APOSTOLOV = {"seed": 1, "momentum": 0, "weight-decay": 0, "lr-drop": []}
# Section 4.1 (batch size, 100 epochs)
LENET = APOSTOLOV | {"data": "mnist", "model": "lenet5-average", "batch-size": 32, "iterations": 100 * 60_000 // 32}
# Section 4.2.1 (transforms, batch size, 200 epochs; SVRG on ResNet-18: 150)
APOSTOLOV_CIFAR = APOSTOLOV | {"augment": "crop-flip", "batch-size": 128, "iterations": 200 * EPOCH}
RESNET18 = APOSTOLOV_CIFAR | {"data": "cifar10", "model": "resnet18-cifar", "drive": "none"}
RESNET18_SVRG = RESNET18 | {"drive": "svrg", "iterations": 150 * EPOCH}
# Sections 4.2.3 and 4.2.4
RESNET101 = APOSTOLOV_CIFAR | {"data": "cifar100", "model": "resnet101-cifar", "drive": "none"}
RESNET101_SVRG = RESNET101 | {"drive": "svrg"}

PUBLISHED = {
    # Table 2, appendix C.1
    "faghri-mnist-mlp": FAGHRI
    | {"data": "mnist", "model": "mlp", "hidden": [1024, 1024], "activation": "relu", "dropout": 0.0}
    | {"iterations": 50_000, "refresh-every": 2000, "gc-iterations": 10, "lr": 0.02, "momentum": 0.5, "lr-drop": []},
    "faghri-cifar10-resnet8": RESNET8,  # Table 2, appendix C.1
    "faghri-cifar10-label-smoothing": RESNET8 | {"label-smoothing": 0.1},  # [Szegedy16]
    "faghri-cifar10-corrupt-labels": RESNET8 | {"label-corruption": 0.1},  # Fig. 6
    "faghri-cifar10-duplicates": RESNET8 | {"duplicates": "100,0.5"},  # Fig. 7; the numbers are ours
    "faghri-cifar100-resnet32": RESNET32,  # Table 2, appendix C.1
    "faghri-cifar100-duplicates": RESNET32 | {"duplicates": "100,0.5"},  # Fig. 7; the numbers are ours
    "defazio-lenet5": VARIANCE_RATIO | {"model": "lenet5", "activation": "relu"},  # section 3, model 1
    "defazio-densenet40": VARIANCE_RATIO | {"model": "densenet40", "width": 1.0, "activation": "relu"},  # section 3, model 4
    "defazio-resnet-small": VARIANCE_RATIO | {"model": "resnet20", "width": 0.5},  # section 3, model 2: half the planes
    "defazio-resnet110": VARIANCE_RATIO | {"model": "resnet110", "width": 1.0},  # section 3, model 3
    "defazio-densenet40-elu": VARIANCE_RATIO | {"model": "densenet40", "width": 1.0, "activation": "elu"},  # section 5.1
    "defazio-locking-on": LOCKING,  # Fig. 1
    "defazio-locking-off": LOCKING | {"transform-locking": "off"},  # Fig. 1
    "defazio-batch-norm-reset": DEFAZIO_SVRG | {"model": "lenet5", "lr-drop": []},  # section 2
    "defazio-batch-norm-naive": DEFAZIO_SVRG | {"model": "lenet5", "lr-drop": [], "batch-norm": "train"},  # section 2
    # Section 2 (10 %), section 3 (decreases of the learning rate)
    "defazio-iterate-averaging": DEFAZIO_SVRG
    | {"model": "lenet5", "iterate-averaging": 0.1, "lr-drop": [150 * EPOCH, 220 * EPOCH]},
    "defazio-lenet5-sgd": DEFAZIO_SGD | {"model": "lenet5"},  # section 8
    "defazio-densenet40-sgd": DEFAZIO_SGD | {"model": "densenet40", "width": 1.0},  # section 8, Fig. 5b
    "defazio-resnet110-sgd": DEFAZIO_SGD | {"model": "resnet110", "width": 1.0},  # section 8, Fig. 5c
    "apostolov-mnist-lenet-sgd": LENET | {"drive": "none", "lr": 0.1},  # Table 4.2
    "apostolov-mnist-lenet-svrg": LENET | {"drive": "svrg", "lr": 0.01},  # Table 4.2
    "apostolov-cifar10-resnet18-norm-sgd": RESNET18 | {"norm": "batch", "lr": 0.05},  # Table 4.4
    "apostolov-cifar10-resnet18-norm-svrg": RESNET18_SVRG | {"norm": "batch", "lr": 0.01},  # Table 4.4
    "apostolov-cifar10-resnet18-sgd": RESNET18 | {"norm": "none", "lr": 0.01},  # Table 4.5
    "apostolov-cifar10-resnet18-svrg": RESNET18_SVRG | {"norm": "none", "lr": 0.005},  # Table 4.5
    "apostolov-cifar100-resnet101-norm-sgd": RESNET101 | {"norm": "batch", "lr": 0.05},  # Table 4.7
    "apostolov-cifar100-resnet101-norm-svrg": RESNET101_SVRG | {"norm": "batch", "lr": 0.005},  # Table 4.7
    "apostolov-cifar100-resnet101-sgd": RESNET101 | {"norm": "none", "lr": 0.005},  # Table 4.8
    "apostolov-cifar100-resnet101-svrg": RESNET101_SVRG | {"norm": "none", "lr": 0.005},  # Table 4.8
    # Section 4.3
    "apostolov-cifar100-resnet101-metainit": RESNET101_SVRG
    | {"norm": "none", "lr": 0.005, "init": "metainit", "metainit-steps": 200},
}
"""Every value that a paper gives, by the names of `--print-config`; beside each row its source."""


@pytest.fixture(scope="module")
def made_up_images(tmp_path_factory):
    """A folder for each data set with few random images: a config is printed only for data that are there."""
    random = np.random.default_rng(0)

    def records(count, labels):
        return random.integers(10, size=(count, labels + 3072), dtype=np.uint8).tobytes()

    folder = tmp_path_factory.mktemp("made up")
    for data, files, labels in (("cifar10", ("data_batch_1.bin", "test_batch.bin"), 1), ("cifar100", ("train.bin", "test.bin"), 2)):
        (folder / data).mkdir()
        for file in files:
            (folder / data / file).write_bytes(records(1000, labels))
    (folder / "mnist").mkdir()
    for part in ("train", "t10k"):
        for kind, shape in (("images-idx3-ubyte", (1000, 28, 28)), ("labels-idx1-ubyte", (1000,))):
            header = np.array([2048 + len(shape), *shape], ">u4").tobytes()
            content = random.integers(10, size=shape, dtype=np.uint8).tobytes()
            (folder / "mnist" / f"{part}-{kind}").write_bytes(header + content)
    return folder


def printed_config(preset, folder, capfd):
    words = ["run", "--preset", preset, "--data-dir", os.fspath(folder / data_set(preset)), "--print-config"]
    status = _core.program(words)
    out, err = capfd.readouterr()
    assert status == 0, err
    return tomllib.loads(out)


@pytest.mark.parametrize("preset", PUBLISHED)
def test_a_preset_has_the_published_values(preset, made_up_images, capfd):
    config = printed_config(preset, made_up_images, capfd)
    published = PUBLISHED[preset]
    assert {name: config[name] for name in published} == published


def check_theory(trace):
    """What must hold in every run, whatever it measured."""
    if "svrg" in trace:
        refreshed = np.isin(trace.iterations, trace.refreshes["svrg"].iteration)
        assert refreshed.any()
        left = trace["svrg"].average_variance[refreshed] / trace["sg-b"].average_variance[refreshed]
        locked = trace.config["augment"] == "none" or trace.config["transform_locking"] == "on"
        assert (left <= 1e-12).all() if locked else (left > 1e-6).all()
    if "sg-2b" in trace:
        np.testing.assert_allclose(trace["sg-2b"].average_variance, trace["sg-b"].average_variance / 2, rtol=1e-12)
    if trace.config["init"] == "metainit":
        assert len(trace.metainit.quotient) == trace.config["metainit_steps"] + 1
    assert np.isfinite(trace.trajectory.train_loss).all()


def test_every_experiment_has_a_small_one():
    for names in (list(PRESETS), RF_PRESETS):
        papers = [name for name in names if not name.endswith(":small")]
        assert names == [each for name in papers for each in (name, f"{name}:small")]
    assert list(PUBLISHED) == [name for name in PRESETS if not name.endswith(":small")]
    assert all(source.startswith(("[Faghri20]", "[Defazio19]", "[Apostolov21]")) for source, *_ in PRESETS.values())


@pytest.mark.parametrize("preset", SMALL)
def test_a_small_preset_begins(preset, few_images):
    options = CUT | options_for(preset, few_images(preset))
    if "metainit" in preset:
        options["metainit_steps"] = 1
    trace = gradist.run(preset=preset, progress=False, threads=1, **options)
    assert trace.iterations.tolist() == [0, 2]
    check_theory(trace)


@pytest.mark.nightly
@pytest.mark.parametrize("preset", SMALL)
def test_a_small_preset_in_full(preset):
    trace = gradist.run(preset=preset, progress=False, **options_for(preset, data_set(preset) and real_folder(preset)))
    assert trace.iterations[-1] == trace.config["iterations"]
    assert trace.trajectory.train_loss[-1] < trace.trajectory.train_loss[0]
    check_theory(trace)
    print(f"{preset}: {trace.trajectory.seconds[-1]:.0f} s, {trace.config['threads']} threads; {PRESETS[preset][2]} said")


@pytest.mark.parametrize(
    "preset",
    [
        pytest.param(name, marks=pytest.mark.nightly if "protocol" in name else ())
        for name in RF_PRESETS
        if name.endswith(":small")
    ],
)
def test_a_small_sweep(preset):
    sweep = gradist.rf.sweep(preset=preset, progress=False).to_xarray()
    assert (sweep.complete == 1).all()
    if "protocol" in preset:  # by draws, so that no ratio is exact
        assert np.isfinite(sweep.max_average_variance).all()
        return
    variance = sweep.max_average_variance
    np.testing.assert_allclose(variance.sel(estimator="sg-2b"), variance.sel(estimator="sg-b") / 2, rtol=1e-12)


def test_a_sweep_by_the_papers_protocol_begins():
    sweep = gradist.rf.sweep(preset="faghri-rf-protocol:small", n=[100], iterations=20, log_every=10, draws=5, progress=False)
    assert sweep.config["protocol"] == "faghri" and sweep.config["measure"] == "sampled"


def test_an_unknown_sweep_preset_is_one_line():
    with pytest.raises(ValueError, match="preset = faghri, must be one of faghri-rf"):
        gradist.rf.sweep(preset="faghri", progress=False)
