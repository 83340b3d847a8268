"""`gradist.run` and the console script: one set of options, one program."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import SMALL_RUN

import gradist


def values(trace):
    """Everything in a trace but times."""
    return {name: each.values for name, each in trace.to_xarray().data_vars.items() if "seconds" not in name}


def program(*words, **options):
    return subprocess.run([sys.executable, "-m", "gradist", *words], capture_output=True, text=True, **options)


def test_without_out_the_trace_is_temporary():
    trace = gradist.run(**SMALL_RUN)
    folder = os.path.dirname(trace.path)
    assert len(trace["gc"].average_variance) == 5
    trace.close()
    assert not os.path.exists(folder)


def test_options_may_be_numpy_and_torch_values():
    options = {"hidden": np.array([6, 5]), "lr": np.float64(0.01), "replacement": np.bool_(False), "seed": torch.tensor(3)}
    config = gradist.run(**SMALL_RUN | options).config
    assert (config["hidden"], config["lr"], config["replacement"], config["seed"]) == ([6, 5], 0.01, False, 3)


def test_steps_of_gc_are_options_of_a_run():
    options = {
        "gc_start": "random", "gc_centers": "svd", "gc_rank": 2, "gc_weighting": "none", "gc_fraction": 0.5, "gc_minibatch": 32, "gc_decay": 0.9,
        "gc_parameters": ["layer*", "!*.bias"],
    }  # fmt: skip
    first, plain = gradist.run(**SMALL_RUN | options), gradist.run(**SMALL_RUN)
    assert {name: first.config[name] for name in options} == options
    assert not np.array_equal(first.refreshes["gc"].assignments, plain.refreshes["gc"].assignments)
    again = gradist.run(progress=False, **{name: value for name, value in first.config.items() if name != "out"})
    assert np.array_equal(first.refreshes["gc"].assignments, again.refreshes["gc"].assignments)


def test_an_empty_out_is_refused_before_any_work():
    with pytest.raises(ValueError, match="out = '', must name a file"):
        gradist.run(**SMALL_RUN, out="")


def test_file_names_may_be_any_bytes(tmp_path):
    path = os.fsencode(tmp_path) + b"/\xff.h5"
    with gradist.run(**SMALL_RUN, out=path) as trace:
        assert os.fsencode(trace.path) == path
    with pytest.raises(ValueError, match="must not exist without overwrite"):
        gradist.run(**SMALL_RUN, out=path)
    words = [os.fsencode(sys.executable), b"-m", b"gradist", b"info", path]
    assert subprocess.run(words, capture_output=True).stdout.startswith(path + b": gradist trace")


def test_a_run_is_repeated_bit_for_bit_and_its_config_reruns_it():
    first = gradist.run(**SMALL_RUN)
    again = gradist.run(progress=False, **{name: value for name, value in first.config.items() if name != "out"})
    expected = values(first)
    assert len(expected) > 20
    for name, found in values(again).items():
        np.testing.assert_array_equal(found, expected[name], err_msg=name)


def test_measuring_never_moves_the_trajectory():
    one = gradist.run(**SMALL_RUN, estimator="sg-b")
    four = gradist.run(**SMALL_RUN, estimator=["sg-b", "sg-2b", "svrg", "gc"])
    assert one.estimators == ("sg-b",) and len(four.estimators) == 4
    np.testing.assert_array_equal(one.trajectory.parameter_hash, four.trajectory.parameter_hash)


def test_sg_2b_is_half_of_sg_b(run_path):
    with gradist.open(run_path) as trace:
        np.testing.assert_allclose(trace["sg-2b"].average_variance, trace["sg-b"].average_variance / 2, rtol=1e-12)


def test_options_arrive():
    trace = gradist.run(**SMALL_RUN | {"hidden": [6, 5], "lr": 0.01}, replacement=False, measure="subset", measure_examples=300)
    assert trace.config["hidden"] == [6, 5] and trace.config["lr"] == 0.01 and trace.config["replacement"] is False
    assert trace.layers == ("layers.0.weight", "layers.0.bias") or len(trace.layers) == 6
    assert (trace["sg-b"].ci_low < trace["sg-b"].ci_high).all()


def write_cifar(folder, examples):
    """Files of CIFAR-10 with random pixels."""
    generator = np.random.default_rng(0)
    for name in ("data_batch_1.bin", "test_batch.bin"):
        records = generator.integers(256, size=(examples, 3073), dtype=np.uint8)
        records[:, 0] %= 10
        (folder / name).write_bytes(records.tobytes())


def test_the_way_from_a_snapshot(tmp_path):
    """Locked transforms leave svrg no variance at its snapshot; on its way the trace has ratios and drift."""
    write_cifar(tmp_path, 64)
    options = SMALL_RUN | {"data": "cifar10", "data_dir": tmp_path, "model": "resnet8", "width": 0.25, "augment": "crop-flip", "dropout": 0.2, "estimator": ["sg-b", "svrg"]}
    deep = {"norm": "batch", "batch_norm": "reset", "measure": "sampled", "draws": 5, "drive": "svrg"}
    trace = gradist.run(**options | deep | {"log_at": [0.1, 0.5, 1], "drift_every": 2})
    assert list(trace.iterations) == [2, 10, 19, 22, 30, 39, 40]
    series = trace["svrg"]
    assert series.variance_ratio[-1] < 1e-9 and (series.variance_ratio[:-1] > 0).all()
    assert (series.variance_ratio_low[:-1] < series.variance_ratio[:-1]).all()
    assert list(trace.drift.iteration) == list(range(1, 20)) and (trace.drift.distance > 0).all()
    assert trace.to_xarray().drift_curvature.sizes == {"drift_iteration": 19}
    exact = gradist.run(**options | {"measure": "subset", "measure_examples": 50, "log_every": 20, "transform_locking": "off"})
    assert exact["svrg"].variance_ratio[0] > 0, "each pass has transforms of its own"


def test_metainit_is_in_the_trace_and_repeated_bit_for_bit():
    first, again = (gradist.run(**SMALL_RUN, init="metainit", metainit_steps=5) for _ in range(2))
    assert first.metainit.step.tolist() == [0, 1, 2, 3, 4, 5]
    assert (first.metainit.quotient > 0).all() and len(set(first.metainit.quotient)) == 6
    np.testing.assert_array_equal(first.metainit.quotient, again.metainit.quotient)
    np.testing.assert_array_equal(first.to_xarray().metainit_quotient, first.metainit.quotient)
    np.testing.assert_array_equal(first.trajectory.parameter_hash, again.trajectory.parameter_hash)
    assert gradist.run(**SMALL_RUN).metainit is None
    with pytest.raises(ValueError, match="init = metainit, must be torch or he for logistic, which has no hidden layers"):
        gradist.run(**SMALL_RUN, model="logistic", init="metainit")


def test_a_preset_and_a_config_file_come_before_options(tmp_path):
    (tmp_path / "run.toml").write_text("batch-size = 32\nlr = 0.5\n")
    trace = gradist.run(config=tmp_path / "run.toml", **SMALL_RUN)
    assert trace.config["batch_size"] == 16 and trace.config["lr"] == 0.5
    with pytest.raises(ValueError, match="faghri-mnist-mlp"):
        gradist.run(preset="none", progress=False)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"batch_sise": 3}, "'batch_sise'; did you mean 'batch_size'?"),
        ({"zzz": 3}, "'zzz'; there are"),
        ({"batch_size": 0}, "batch_size = 0, must be >= 1"),
        ({"batch_size": 10_000}, "batch_size = 10000, must be <="),
        ({"lr": -1}, "lr = -1, must be > 0"),
        ({"lr": float("nan")}, "lr = nan"),
        ({"hidden": ["wide"]}, "hidden = wide"),
        ({"estimator": ["sg-b", "sg-c"]}, "sg-c"),
        ({"clusters": 10**9}, "clusters = 1000000000"),
        ({"data": "mnist", "data_dir": "nowhere"}, "nowhere"),
        ({"seed": None}, "seed = None"),
        ({"gc_rank": 2}, "gc_rank = 2: must be 1 where gc-centers = factors"),
        ({"gc_start": "far"}, "gc_start = far, must be one of k-means++|random"),
        ({"gc_weighting": "some"}, "gc_weighting = some, must be one of running|fixed|none"),
        ({"gc_parameters": ["conv*"]}, "gc_parameters = conv*: must match a parameter, such as "),
        ({"config": "nowhere.toml"}, "nowhere.toml"),
        ({"out": "nowhere/trace.h5"}, "nowhere/trace.h5"),
    ],
)
def test_mistakes_are_value_errors_of_one_line(options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError) as error:
        gradist.run(**SMALL_RUN | options)
    assert message in str(error.value)
    assert "\n" not in str(error.value) and "C++" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_trace_is_kept(run_path):
    before = run_path.read_bytes()
    with pytest.raises(ValueError, match="overwrite"):
        gradist.run(out=run_path, **SMALL_RUN)
    with pytest.raises(ValueError, match="lr"):
        gradist.run(out=run_path, overwrite=True, lr=-1, progress=False)
    assert run_path.read_bytes() == before


def test_a_progress_bar_is_shown_on_request(capsys):
    gradist.run(**SMALL_RUN | {"progress": True}).close()
    assert "40/40" in capsys.readouterr().err
    gradist.run(**SMALL_RUN).close()
    assert capsys.readouterr().err == ""


# ---- the console script


def test_the_program_runs_informs_and_reports(tmp_path):
    words = ["--iterations", "20", "--log-every", "10", "--hidden", "8", "--batch-size", "16", "--out", "trace.h5"]
    run = program("run", *words, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert "gc" in run.stdout and "trace.h5" in run.stdout
    assert "\r" not in run.stderr, "no progress bar where there is no terminal"
    assert program("info", "trace.h5", cwd=tmp_path).returncode == 0
    report = program("report", "trace.h5", "-o", "report.html", cwd=tmp_path)
    assert report.returncode == 0, report.stderr
    assert (tmp_path / "report.html").exists()


def test_quiet_is_quiet(tmp_path):
    words = ["--iterations", "4", "--hidden", "4", "--batch-size", "16", "--refresh-every", "4", "--quiet"]
    run = program("run", *words, cwd=tmp_path)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


@pytest.mark.parametrize(
    "words",
    [["run", "--lr", "0"], ["run", "--wrong", "1"], ["info", "none.h5"], ["report", "none.h5"], ["wrong"]],
    ids=" ".join,
)
def test_the_programs_mistakes_are_one_line_and_status_2(words, tmp_path):
    result = program(*words, cwd=tmp_path)
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert words[-1] in result.stderr or words[-2] in result.stderr
    assert list(tmp_path.iterdir()) == []
