import os

# Everything here is small: one thread beats two.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "agg")

import pytest  # noqa: E402

import gradist  # noqa: E402
from synthetic_trace import write_trace  # noqa: E402

SMALL_RUN = {"iterations": 40, "log_every": 10, "refresh_every": 20, "hidden": [8], "batch_size": 16, "progress": False}


@pytest.fixture(scope="session")
def synthetic_path(tmp_path_factory):
    return write_trace(tmp_path_factory.mktemp("synthetic") / "trace.h5")


@pytest.fixture
def synthetic(synthetic_path):
    with gradist.open(synthetic_path) as trace:
        yield trace


@pytest.fixture(scope="session")
def run_path(tmp_path_factory):
    """A trace that the C++ writer wrote."""
    path = tmp_path_factory.mktemp("run") / "trace.h5"
    gradist.run(out=path, drift_every=1, per_coordinate=True, init="metainit", metainit_steps=3, **SMALL_RUN).close()
    return path
