"""Reading traces: of the trusted writer (h5py), of the C++ writer, damaged ones, and ones that are still being written."""

import os
import shutil
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest
import synthetic_trace
import xarray

import gradist

SLOW_RUN = """
import gradist, sys
gradist.run(out=sys.argv[1], iterations=1_000_000, log_every=5, refresh_every=50, hidden=[8], batch_size=16, progress=False)
"""


# ---- values


def test_arrays_are_those_of_the_file(synthetic, synthetic_path):
    with h5py.File(synthetic_path) as file:
        np.testing.assert_array_equal(synthetic.iterations, file["trajectory/iteration"])
        for name in synthetic.estimators:
            for quantity in synthetic[name]:
                np.testing.assert_array_equal(synthetic[name][quantity], file[f"estimators/{name}/{quantity}"])
        np.testing.assert_array_equal(synthetic.refreshes["gc"].assignments, file["refresh/gc/assignments"])
        np.testing.assert_array_equal(synthetic.gradients.squared_norm_histogram_edges.shape, (65,))
    assert synthetic["svrg"].average_variance is synthetic["svrg"].average_variance


def test_what_the_run_was(synthetic):
    assert synthetic.estimators == ("sg-b", "sg-2b", "svrg", "gc")
    assert tuple(synthetic) == synthetic.estimators and len(synthetic) == 4
    assert synthetic.layers == tuple(synthetic_trace.LAYERS)
    assert synthetic.parameters == sum(synthetic_trace.LAYERS.values())
    assert (synthetic.examples, synthetic.batch_size) == (synthetic_trace.EXAMPLES, synthetic_trace.BATCH_SIZE)
    assert synthetic.config["log_every"] == 10 and synthetic.config["data"] == "digits"
    assert "201 log points" in repr(synthetic)


def test_names_that_are_not_there(synthetic):
    with pytest.raises(KeyError, match="storm"):
        synthetic["storm"]
    with pytest.raises(AttributeError, match="estimators/gc/ci_low"):
        _ = synthetic["gc"].ci_low
    assert not hasattr(synthetic["gc"], "ci_low") and "ci_low" not in synthetic["gc"]


def test_a_missing_dataset_is_a_missing_key(synthetic):
    assert synthetic.gradients.get("nothing") is None
    with pytest.raises(KeyError, match="gradients/nothing"):
        synthetic.gradients["nothing"]


def test_a_closed_trace_says_so(synthetic_path):
    with gradist.open(synthetic_path) as trace:
        pass
    for use in (lambda: trace.iterations, lambda: trace.estimators, lambda: trace.parameters):
        with pytest.raises(ValueError, match="the trace is closed"):
            use()


def test_a_folder_is_no_trace(tmp_path):
    with pytest.raises(OSError, match="is a folder"):
        gradist.open(tmp_path)


def test_rows_that_are_not_complete_are_not_shown(synthetic_path, tmp_path):
    path = shutil.copy(synthetic_path, tmp_path / "growing.h5")
    with h5py.File(path, "a") as file:
        file["trajectory/iteration"].resize((203,))
        file["estimators/gc/mse"].resize((200,))
    with gradist.open(path) as trace:
        assert len(trace.iterations) == len(trace["gc"].mse) == len(trace["sg-b"].layers["0.bias"]) == 200
        assert len(trace.refreshes["gc"].iteration) == 5


# ---- the trace of a run, by every reader


def test_h5py_reads_every_value_of_a_run(run_path):
    with h5py.File(run_path) as file:
        assert file.attrs["schema"] == "gradist-trace" and file.attrs["schema_version"] == 1
        np.testing.assert_array_equal(file["trajectory/iteration"], [0, 10, 20, 30, 40])
        np.testing.assert_array_equal(file["refresh/gc/iteration"], [0, 20, 40])
        np.testing.assert_array_equal(file["refresh/gc/sizes"][:].sum(axis=1), file.attrs["examples"])
        assert (np.diff(file["gradients/squared_norm_quantiles"][:], axis=1) >= 0).all()
        np.testing.assert_array_equal(file["gradients/squared_norm_histogram"][:].sum(axis=1), file.attrs["examples"])
        share = file["gradients/top_percent_share"][:]
        assert ((share > 0.01) & (share < 1)).all()
        # Every axis of every dataset has a scale.
        unscaled = []
        file.visititems(
            lambda name, node: unscaled.append(name)
            if isinstance(node, h5py.Dataset) and not node.is_scale and not all(len(axis) for axis in node.dims)
            else None
        )
        assert unscaled == []


def test_xarray_opens_every_group_of_a_run(run_path):
    groups = []
    with h5py.File(run_path) as file:
        file.visititems(lambda name, node: groups.append(name) if isinstance(node, h5py.Group) else None)
    assert "estimators/gc/layers" in groups
    for group in groups:
        with xarray.open_dataset(run_path, engine="h5netcdf", group=group) as dataset:
            dataset.load()
    with xarray.open_dataset(run_path, engine="h5netcdf", group="estimators/gc") as dataset:
        assert dataset.average_variance.dims == ("iteration",)
        assert dataset.sizes["iteration"] == 5  # the scale itself stands in the parent group


@pytest.mark.parametrize("which", ["synthetic_path", "run_path"])
def test_to_xarray_holds_everything(which, request):
    with gradist.open(request.getfixturevalue(which)) as trace:
        dataset = trace.to_xarray()
        for name in trace.estimators:
            selected = dataset.sel(estimator=name)
            np.testing.assert_array_equal(selected.average_variance, trace[name].average_variance)
            for layer, values in trace[name].layers.items():
                np.testing.assert_array_equal(selected.layer_average_variance.sel(layer=layer), values)
        np.testing.assert_array_equal(dataset.train_loss, trace.trajectory.train_loss)
        np.testing.assert_array_equal(dataset.gc_assignments, trace.refreshes["gc"].assignments)
        np.testing.assert_array_equal(dataset.gc_refresh, trace.refreshes["gc"].iteration)
        assert dataset.squared_norm_quantiles.dims == ("iteration", "quantile")
        assert dataset.attrs["config"] == trace.config_text


# ---- files that are no traces


def one_line(error):
    return "\n" not in str(error.value)


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file") as error:
        gradist.open(tmp_path / "none.h5")
    assert one_line(error)


@pytest.mark.parametrize("content", [b"", b"not HDF5 at all", b"\x89HDF\r\n\x1a\n"], ids=["empty", "text", "signature"])
def test_a_file_of_another_kind(tmp_path, content):
    path = tmp_path / "trace.h5"
    path.write_bytes(content)
    with pytest.raises(OSError, match="trace.h5") as error:
        gradist.open(path)
    assert one_line(error)


def test_a_folder(tmp_path):
    with pytest.raises(OSError) as error:
        gradist.open(tmp_path)
    assert one_line(error)


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.9])
def test_a_truncated_file(synthetic_path, tmp_path, share):
    path = tmp_path / "trace.h5"
    content = synthetic_path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(OSError, match="truncated or damaged") as error:
        gradist.open(path)
    assert one_line(error)


def test_hdf5_that_is_no_trace(tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["numbers"] = np.arange(3)
    with pytest.raises(ValueError, match="not a gradist trace"):
        gradist.open(tmp_path / "other.h5")


def test_a_trace_of_a_later_schema(synthetic_path, tmp_path):
    path = shutil.copy(synthetic_path, tmp_path / "later.h5")
    with h5py.File(path, "a") as file:
        file.attrs["schema_version"] = 2
    with pytest.raises(ValueError, match="schema 2"):
        gradist.open(path)


def test_bytes_changed_at_random_never_end_the_interpreter(synthetic_path, tmp_path):
    """In a child process, so that a crash of the HDF5 library is a failure of this test and not of the whole suite."""
    script = """
import random, sys, gradist, pathlib
content = pathlib.Path(sys.argv[1]).read_bytes()
path = pathlib.Path(sys.argv[2])
for seed in range(60):
    generator = random.Random(seed)
    changed = bytearray(content)
    for _ in range(20):
        changed[generator.randrange(min(len(changed), 20000))] = generator.randrange(256)
    path.write_bytes(changed)
    try:
        with gradist.open(path) as trace:
            trace.to_xarray()
    except (OSError, ValueError, AttributeError) as error:
        assert "\\n" not in str(error), error
print("survived")
"""
    command = [sys.executable, "-c", script, str(synthetic_path), str(tmp_path / "changed.h5")]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.stdout == "survived\n", result.stderr


# ---- runs that are not over


def start_slow_run(path):
    process = subprocess.Popen([sys.executable, "-c", SLOW_RUN, str(path)], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline, "the run did not begin"
        time.sleep(0.02)
    return process


def wait_for_more(trace, points):
    deadline = time.monotonic() + 120
    while len(trace.refresh().iterations) <= points:
        assert time.monotonic() < deadline, "the trace did not grow"
        time.sleep(0.02)
    return len(trace.iterations)


def assert_whole(trace):
    points = len(trace.iterations)
    np.testing.assert_array_equal(trace.iterations, 5 * np.arange(points))
    for name in trace.estimators:
        assert np.isfinite(trace[name].average_variance).all()
        assert all(len(values) == points for values in trace[name].values())
    assert np.isfinite(trace.trajectory.train_loss).all()


@pytest.fixture
def slow_run(tmp_path):
    path = tmp_path / "trace.h5"
    process = start_slow_run(path)
    yield process, path
    process.kill()
    process.wait()


def test_reading_while_a_run_writes_and_after_it_was_killed(slow_run, monkeypatch):
    process, path = slow_run
    with gradist.open(path) as trace:
        points = 0
        for _ in range(3):
            points = wait_for_more(trace, points)
            assert_whole(trace)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert len(trace.refresh().iterations) >= points
    with gradist.open(path) as trace:
        assert_whole(trace)
        assert len(trace.to_xarray().iteration) == len(trace.iterations)
    # Cut in addition, the file would keep HDF5 waiting for a writer that is gone.
    monkeypatch.setattr("gradist.trace._CHILD_SECONDS", 3)
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(OSError, match="truncated or damaged") as error:
        gradist.open(path)
    assert one_line(error)


def test_ctrl_c_ends_a_run_with_keyboard_interrupt_and_a_readable_trace(slow_run):
    process, path = slow_run
    with gradist.open(path) as trace:
        wait_for_more(trace, 2)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode in (-signal.SIGINT, 130) and errors.rstrip().endswith("KeyboardInterrupt")
    with h5py.File(path) as file:  # closed as it should be: opens without SWMR
        assert file["trajectory/iteration"].shape[0] > 2
    with gradist.open(path) as trace:
        assert_whole(trace)
