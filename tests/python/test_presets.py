"""Every preset is an experiment that runs. Here the small ones begin, on a few hundred images cut from the real files;
`scripts/nightly.sh` (marker `nightly`) runs them in full."""

import gzip
import os
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
