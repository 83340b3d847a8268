"""Random Features from Python: closed forms against autograd, sweeps, Dask, figures."""

import itertools
import os
import signal
import subprocess
import sys
import threading
import time

import h5py
import numpy as np
import pytest
import torch
import xarray
from torch import nn

import gradist
from gradist import sweep_plots

SMALL = {
    "n": [12, 40],
    "d_in": [3, 5],
    "h_teacher": [4, 6],
    "h_student": [20],
    "lr": [0.1, 0.01],
    "seeds": [7],
    "batch_size": [4],
    "iterations": 30,
    "log_every": 8,
    "refresh_every": 10,
    "test_examples": 9,
    "threads": 1,
}
ESTIMATORS = ["sg-b", "sg-2b", "svrg", "gc", "gc-descent", "sg-importance"]


@pytest.fixture(scope="module")
def small_sweep(tmp_path_factory):
    with gradist.rf.sweep(out=tmp_path_factory.mktemp("sweep") / "sweep.h5", progress=False, **SMALL) as sweep:
        yield sweep


def contents(path):
    with open(path, "rb") as file:
        return file.read()


# ---- closed forms against autograd, float64


def readout(outputs, features, seed):
    torch.manual_seed(seed)
    return nn.Linear(features, outputs, dtype=torch.float64)


def example_gradients(layer, losses):
    """Every example's gradient by a backward pass of its own, [N, P]: weight, then bias."""
    rows = []
    for loss in losses:
        gradients = torch.autograd.grad(loss, list(layer.parameters()), retain_graph=True)
        rows.append(torch.cat([each.reshape(-1) for each in gradients]))
    return torch.stack(rows)


def losses_of(layer, features, labels, loss):
    outputs = layer(features)
    if outputs.shape[1] == 2:
        return nn.functional.cross_entropy(outputs, (labels > 0).long(), reduction="none")
    if loss == "squared":
        return (outputs.squeeze(1) - labels) ** 2 / 2
    return nn.functional.softplus(-labels * outputs.squeeze(1))


def covariance_by_coordinate(estimator, gradients, snapshot, assignments, probabilities, batch_size):
    n = len(gradients)

    def variance(rows):
        return (rows**2).mean(0) - rows.mean(0) ** 2

    if estimator == "sg-b":
        return variance(gradients) / batch_size
    if estimator == "sg-2b":
        return variance(gradients) / (2 * batch_size)
    if estimator == "svrg":
        return variance(gradients - snapshot) / batch_size
    if estimator == "sg-importance":
        weighted = gradients / (n * probabilities[:, None])
        second = (probabilities[:, None] * weighted**2).sum(0)
        return (second - gradients.mean(0) ** 2) / batch_size
    total = torch.zeros_like(gradients[0])
    for k in range(int(assignments.max()) + 1):
        members = gradients[assignments == k]
        if len(members):
            total += (len(members) / n) ** 2 * variance(members)
    return total


@pytest.mark.parametrize("outputs, loss", [(1, "cross-entropy"), (1, "squared"), (2, "cross-entropy")])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_closed_forms_are_those_of_autograd(estimator, outputs, loss):
    features, labels = (torch.from_numpy(np.asarray(each, float)) for each in gradist.rf.make(60, 8, 10, 25, seed=3))
    here, there = readout(outputs, 25, 0), readout(outputs, 25, 1)
    gradients, snapshot = (example_gradients(layer, losses_of(layer, features, labels, loss)) for layer in (here, there))
    assignments = torch.arange(60) ** 2 % 7
    probabilities = torch.linspace(1, 3, 60, dtype=torch.float64)
    probabilities /= probabilities.sum()
    weight = [layer.weight.squeeze(0) if outputs == 1 else layer.weight for layer in (here, there)]

    moments = gradist.rf.moments(
        features,
        labels,
        weight[0],
        here.bias,
        7,
        estimator,
        loss=loss,
        snapshot=(weight[1], there.bias),
        assignments=assignments,
        probabilities=probabilities,
    )

    variance = covariance_by_coordinate(estimator, gradients, snapshot, assignments, probabilities, 7)
    signal = gradients.mean(0) ** 2
    assert moments.trace_covariance == pytest.approx(variance.sum().item(), rel=1e-10)
    assert moments.average_variance == pytest.approx(variance.mean().item(), rel=1e-10)
    assert moments.normalized_variance == pytest.approx((variance / (variance + signal)).mean().item(), rel=1e-10)
    assert moments.noise_to_signal == pytest.approx((variance.sum() / signal.sum()).item(), rel=1e-10)
    assert moments.mean_squared_norm == pytest.approx((variance.sum() + signal.sum()).item(), rel=1e-10)
    layers = variance.split([25 * outputs, outputs])
    assert moments.layer_average_variance == pytest.approx([layer.mean().item() for layer in layers], rel=1e-10)


@pytest.mark.parametrize("estimator", ["sg-b", "sg-2b"])
def test_closed_forms_are_those_of_the_engine_for_any_module(estimator):
    features, labels = gradist.rf.make(40, 8, 10, 25, seed=1)
    layer = readout(1, 25, 0)
    data = torch.from_numpy(features.astype(float)), torch.from_numpy(labels.astype(float))
    engine = gradist.measure(
        layer, lambda z, y: nn.functional.softplus(-y * z.squeeze(1)), data, estimators=[estimator], batch_size=5
    )
    closed = gradist.rf.moments(features, labels, layer.weight.squeeze(0), layer.bias, 5, estimator)
    assert closed.trace_covariance == pytest.approx(engine[estimator].trace_covariance, rel=1e-10)
    assert closed.normalized_variance == pytest.approx(engine[estimator].normalized_variance, rel=1e-10)


def test_clusters_made_here_are_no_worse_than_sg_b():
    features, labels = gradist.rf.make(100, 20, 20, 30, seed=0)
    weight = np.random.default_rng(0).normal(size=30)
    plain = gradist.rf.moments(features, labels, weight, 0.1, 10).trace_covariance
    for estimator in ("gc", "gc-descent"):
        assert gradist.rf.moments(features, labels, weight, 0.1, 10, estimator).trace_covariance <= plain


@pytest.mark.parametrize(
    "change, message",
    [
        ({"batch_size": 41}, "batch_size = 41, must lie in [1, 40], the number of examples"),
        ({"labels": np.zeros(40)}, "labels, must be -1 or +1"),
        ({"weight": np.zeros(3)}, "readout of 3 weights and 1 biases, must have 5 and 1"),
        ({"estimator": "adam"}, "estimator = adam, must be one of sg-b, sg-2b, svrg, gc, gc-descent, sg-importance"),
        ({"weight": np.zeros((2, 5)), "bias": [0, 0], "loss": "squared"}, "loss = squared, must be cross-entropy"),
        ({"estimator": "sg-importance", "probabilities": np.ones(40)}, "probabilities, must be 40 numbers > 0 whose sum is 1"),
        ({"estimator": "gc", "assignments": -np.ones(40, int)}, "clusters, must be numbers in [0, 40)"),
    ],
)
def test_mistakes_in_moments_are_one_line(change, message):
    features, labels = gradist.rf.make(40, 3, 4, 5, seed=0)
    arguments = {"features": features, "labels": labels, "weight": np.zeros(5), "bias": 0.0, "batch_size": 4} | change
    with pytest.raises(ValueError) as error:
        gradist.rf.moments(**arguments)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


# ---- features and labels


def test_make_gives_features_and_labels():
    features, labels = gradist.rf.make(300, 20, 30, 50, seed=4)
    assert features.shape == (300, 50) and features.dtype == np.float32
    assert set(np.unique(labels)) == {-1, 1}
    assert (features >= 0).all()
    first, _ = gradist.rf.make(10, 20, 30, 50, seed=4)
    np.testing.assert_array_equal(first, features[:10])
    assert not np.array_equal(gradist.rf.make(10, 20, 30, 50, seed=5)[0], first)


def test_units_have_norm_one():
    # With sigma the identity a feature <x, u> is N(0, ||u||^2): five standard deviations of its mean square, fixed seed.
    features, _ = gradist.rf.make(20_000, 40, 5, 40, seed=0, activation="identity")
    second = (features.astype(float) ** 2).mean(0)
    assert np.abs(second - 1).max() < 5 * np.sqrt(2 / 20_000)


@pytest.mark.parametrize("sizes", [(0, 3, 4, 5), (5, 0, 4, 5), (5, 3, 0, 5), (5, 3, 4, 0)])
def test_sizes_below_one_are_refused(sizes):
    with pytest.raises(ValueError, match="must be one or more numbers >= 1"):
        gradist.rf.make(*sizes, seed=0)


# ---- sweeps


def test_a_sweep_is_an_xarray(small_sweep):
    for data in (xarray.open_dataset(small_sweep.path, engine="h5netcdf"), small_sweep.to_xarray()):
        assert dict(data.average_variance.sizes) == {
            "n": 2,
            "d_in": 2,
            "h_teacher": 2,
            "h_student": 1,
            "duplicates": 1,
            "batch_size": 1,
            "lr": 2,
            "weight_decay": 1,
            "seed": 1,
            "estimator": 6,
            "iteration": 5,
        }
        assert list(data.estimator.values) == ESTIMATORS
        assert list(data.iteration.values) == [0, 8, 16, 24, 30]
        assert data.complete.values.all()
        late = data.average_variance.sel(iteration=[16, 24, 30])
        np.testing.assert_array_equal(late.max("iteration"), data.max_average_variance)
        np.testing.assert_allclose(late.mean("iteration"), data.mean_average_variance, rtol=1e-14)
        assert np.isfinite(data.test_error).all()
        data.close()


def test_a_sweep_knows_its_options(small_sweep):
    assert small_sweep.config["n"] == [12, 40]
    assert small_sweep.config["lr"] == [0.1, 0.01]
    assert "threads" not in small_sweep.config
    assert small_sweep.estimators == ESTIMATORS
    assert small_sweep.complete == 1
    assert "n 2, d_in 2" in repr(small_sweep)
    with pytest.raises(KeyError, match="has no nothing"):
        small_sweep["nothing"]


def test_a_model_does_not_depend_on_the_rest_of_its_grid(small_sweep):
    data = small_sweep.to_xarray().isel(n=1, d_in=1, h_teacher=1, lr=0, iteration=0).squeeze()
    one = gradist.rf.sweep(**SMALL | {"n": [40], "d_in": [5], "h_teacher": [6], "lr": [0.1]}, progress=False)
    np.testing.assert_array_equal(one["average_variance"].squeeze()[:, 0], data.average_variance.values)
    one.close()


def test_the_protocol_of_the_paper_can_exceed_one():
    sweep = gradist.rf.sweep(**SMALL, protocol="faghri", draws=5, progress=False)
    assert sweep.config["measure"] == "sampled"
    assert sweep["normalized_variance"].max() > 1
    sweep.close()


def test_resume_shards_and_merge(tmp_path, small_sweep):
    whole = contents(small_sweep.path)
    parts = []
    for shard in (1, 2, 3):
        parts.append(tmp_path / f"{shard}.h5")
        part = gradist.rf.sweep(**SMALL, shard=f"{shard}/3", out=parts[-1], progress=False)
        assert 0 < part.complete < 1
    merged = gradist.rf.merge(parts, tmp_path / "merged.h5")
    assert merged.complete == 1
    assert contents(merged.path) == whole
    gradist.rf.sweep(**SMALL, resume=True, out=parts[0], progress=False)
    assert contents(parts[0]) == whole


@pytest.mark.parametrize(
    "options, message",
    [
        ({"lr": []}, "must be one or more numbers > 0, none twice"),
        ({"n": [2]}, "n = 2, must be >= batch-size = 4"),
        ({"d_in": [0]}, "d_in = 0, must be one or more numbers >= 1, none twice"),
        ({"shard": "5/4"}, "shard = 5/4, must be i/n with 1 <= i <= n, such as 1/4"),
        ({"logits": 2, "loss": "squared"}, "logits = 2, must be 1 where loss = squared"),
        ({"learning_rate": [1]}, "unknown option 'learning_rate'"),
        ({"out": ""}, "out = '', must name a file"),
        ({"merge": ["a.h5"]}, "unknown option 'merge'; there is gradist.rf.merge"),
    ],
)
def test_mistakes_in_a_sweep_are_one_line(options, message):
    with pytest.raises(ValueError) as error:
        gradist.rf.sweep(**SMALL | options, progress=False)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_merging_other_grids_is_refused(tmp_path, small_sweep):
    other = gradist.rf.sweep(**SMALL | {"lr": [0.5]}, out=tmp_path / "other.h5", progress=False)
    with pytest.raises(ValueError, match="must be a sweep of the same grid as"):
        gradist.rf.merge([small_sweep.path, other.path], tmp_path / "merged.h5")
    assert not (tmp_path / "merged.h5").exists()


def test_what_is_no_sweep_is_refused(tmp_path, run_path):
    with pytest.raises(FileNotFoundError):
        gradist.rf.open(tmp_path / "none.h5")
    with pytest.raises(ValueError, match="not a gradist sweep"):
        gradist.rf.open(run_path)
    (tmp_path / "text.h5").write_text("not HDF5")
    with pytest.raises(OSError, match="truncated or damaged"):
        gradist.rf.open(tmp_path / "text.h5")


PROGRAM = [sys.executable, "-m", "gradist", "rf", "--quiet"]


def words_of(options):
    texts = {name: ",".join(map(str, each)) if isinstance(each, list) else str(each) for name, each in options.items()}
    return [word for name, text in texts.items() for word in (f"--{name.replace('_', '-')}", text)]


def test_a_killed_program_is_read_and_resumed(tmp_path):
    options = SMALL | {"iterations": 4000, "log_every": 100}
    out = tmp_path / "killed.h5"
    command = [*PROGRAM, *words_of(options), "--out", str(out)]
    process = subprocess.Popen(command)
    while process.poll() is None and not (out.exists() and gradist.rf.open(out).complete > 0):
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert gradist.rf.open(out).complete > 0
    subprocess.run([*PROGRAM, "--resume", "--out", str(out)], check=True)  # the options are in the file
    with gradist.rf.sweep(**options, out=tmp_path / "whole.h5", progress=False) as whole:
        assert contents(out) == contents(whole.path)


def test_an_interrupted_sweep_keeps_what_is_done(tmp_path):
    out = tmp_path / "sweep.h5"
    options = SMALL | {"iterations": 200_000, "log_every": 100}
    interrupt = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    interrupt.start()
    with pytest.raises(KeyboardInterrupt):
        gradist.rf.sweep(**options, out=out, progress=False)
    assert gradist.rf.open(out).complete < 1


# ---- Dask


@pytest.fixture(scope="module")
def cluster():
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
    ) as cluster:
        yield cluster


def test_a_cluster_computes_the_same_sweep(tmp_path, cluster, small_sweep):
    with cluster.get_client() as client:
        sweep = gradist.rf.sweep(**SMALL, client=client, out=tmp_path / "dask.h5", progress=False)
    assert contents(sweep.path) == contents(small_sweep.path)


def test_a_worker_that_dies_costs_nothing(tmp_path, cluster):
    options = SMALL | {"iterations": 3000, "log_every": 500, "refresh_every": 1000, "lr": [0.1, 0.05, 0.01, 0.005], "seeds": [1, 2]}
    out = tmp_path / "dask.h5"

    def kill_one():
        while not out.exists() or gradist.rf.open(out).complete == 0:
            time.sleep(0.01)
        os.kill(next(iter(cluster.workers.values())).process.pid, signal.SIGKILL)
        killed.append(True)

    killed = []
    killer = threading.Thread(target=kill_one, daemon=True)
    killer.start()
    with cluster.get_client() as client:
        sweep = gradist.rf.sweep(**options, client=client, out=out, progress=False)
    killer.join(timeout=60)
    assert killed
    assert sweep.complete == 1
    with gradist.rf.sweep(**options, progress=False) as local:
        assert contents(sweep.path) == contents(local.path)


def test_a_cluster_resumes_a_sweep(tmp_path, cluster, small_sweep):
    out = tmp_path / "part.h5"
    gradist.rf.sweep(**SMALL, shard="1/2", out=out, progress=False)
    with cluster.get_client() as client:
        gradist.rf.sweep(**SMALL, client=client, resume=True, out=out, progress=False)
    assert contents(out) == contents(small_sweep.path)


# ---- figures


@pytest.mark.parametrize("figure, statistic", list(itertools.product(("average-variance", "normalized-variance"), ("max", "mean"))))
def test_figures_show_every_learning_rate_and_estimator(small_sweep, figure, statistic):
    drawn = small_sweep.plot(figure, statistic=statistic)
    assert len(drawn.axes) == 3  # SG-B by rate, and a panel for each of the two rates
    assert all(len(axes.containers) == count for axes, count in zip(drawn.axes, (4, 6, 6), strict=True))
    assert drawn.axes[0].get_ylabel().startswith(statistic.capitalize())
    drawn.savefig(os.devnull, format="png")


def test_points_are_means_over_what_is_not_shown(small_sweep):
    drawn = small_sweep.plot("average-variance")
    data = small_sweep.to_xarray().max_average_variance.sel(lr=0.1, estimator="gc")
    line = drawn.axes[1].containers[3].lines[0]
    np.testing.assert_allclose(line.get_xdata(), [20 / 40, 20 / 12])
    expected = np.exp(np.log(data).mean(("d_in", "h_teacher"))).squeeze().values[::-1]
    np.testing.assert_allclose(line.get_ydata(), expected)


def test_the_figure_of_duplicates_has_a_panel_for_each_fraction():
    with gradist.rf.sweep(**SMALL | {"n": [40], "duplicates": [0.5, 0.9]}, duplicate_points=2, progress=False) as sweep:
        drawn = sweep.plot("duplicates")
        assert [axes.get_title(loc="left") for axes in drawn.axes] == ["50% duplicates", "90% duplicates"]
        with pytest.raises(ValueError, match="lr = 3, must be one of 0.1, 0.01"):
            sweep.plot("duplicates", lr=3)


def test_the_figure_of_errors_and_unknown_figures(small_sweep):
    assert len(small_sweep.plot("errors").axes) == 2
    with pytest.raises(ValueError, match="figure = 'pie', must be one of"):
        small_sweep.plot("pie")
    with pytest.raises(ValueError, match="statistic = 'median', must be max or mean"):
        small_sweep.plot(statistic="median")
    assert set(sweep_plots.FIGURES) == {"average-variance", "normalized-variance", "duplicates", "errors"}


def test_h5py_reads_the_axes(small_sweep):
    with h5py.File(small_sweep.path) as file:
        axes = [dimension[0].name for dimension in file["max_average_variance"].dims]
        assert axes[0] == "/n" and axes[-1] == "/estimator"
        assert file.attrs["schema"] == "gradist-sweep"
