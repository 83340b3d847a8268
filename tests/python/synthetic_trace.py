"""A small trace of schema 1 written with h5py alone: the trusted writer against which the Python readers are tested."""

from pathlib import Path

import h5py
import numpy as np

LAYERS = {"0.weight": 640, "0.bias": 10, "2.weight": 100, "2.bias": 10}
EXAMPLES, CLUSTERS, BATCH_SIZE = 1000, 16, 16
CONFIG = """\
data = "digits"
model = "mlp"
iterations = 2000
log-every = 10
refresh-every = 500
per-coordinate = true
seed = 1
"""
REFRESH_EVERY = 500


def write_trace(path: Path, *, iterations: int = 2000, log_every: int = 10, estimators=("sg-b", "sg-2b", "svrg", "gc"), share=0.6):
    """Curves shaped as the real ones: SG-2B is half of SG-B, SVRG falls at a refresh and rises after it, GC drifts."""
    generator = np.random.default_rng(0)
    iteration = np.arange(0, iterations + 1, log_every)
    refreshes = np.arange(0, iterations + 1, REFRESH_EVERY)
    since = iteration % REFRESH_EVERY / REFRESH_EVERY
    plain = 1e-3 * np.exp(-3 * iteration / iterations) * np.exp(0.1 * generator.standard_normal(len(iteration)))
    factors = {"sg-b": 1 + 0 * since, "sg-2b": 0.5 + 0 * since, "svrg": 0.9 * since, "gc": 0.1 + 0.2 * since, "gc-descent": 0.1 + 0.1 * since}

    with h5py.File(path, "w", libver="latest", track_order=True) as file:
        file.attrs.update(
            schema="gradist-trace", schema_version=1, gradist_version="0.1.0", config=CONFIG,
            parameters=sum(LAYERS.values()), examples=EXAMPLES, batch_size=BATCH_SIZE,
        )  # fmt: skip
        trajectory = file.create_group("trajectory")
        _write(trajectory, "iteration", iteration)
        decay = np.exp(-2 * iteration / iterations)
        columns = {
            "epoch": iteration * BATCH_SIZE / EXAMPLES, "train_loss": 2.3 * decay, "test_loss": 2.4 * decay + 0.05,
            "train_accuracy": 1 - 0.9 * decay, "test_accuracy": 0.97 - 0.87 * decay, "learning_rate": 0.1 + 0 * decay,
            "squared_gradient_norm": plain, "distance_to_snapshot": since, "snapshot_curvature": np.where(since > 0, 1 + since, np.nan),
            "parameter_hash": np.arange(len(iteration), dtype=np.uint64), "seconds": 0.01 * iteration,
        }  # fmt: skip
        for name, values in columns.items():
            _write(trajectory, name, values)
        estimator_groups = file.create_group("estimators", track_order=True)
        for name in estimators:
            group = estimator_groups.create_group(name, track_order=True)
            _write_estimator(group, plain * factors[name])
            _write(group, "variance_ratio", factors[name] if name == "svrg" else np.nan * since)
        _write_refreshes(file, refreshes, estimators, generator)
        _write_drift(file.create_group("drift"))
        _write_metainit(file.create_group("metainit"))
        _write_gradients(file.create_group("gradients"), plain, generator, share)
    return path


def _write(group, name, values):
    values = np.asarray(values)
    group.create_dataset(name, data=values, maxshape=(None, *values.shape[1:]), chunks=True)


def _write_estimator(group, variance):
    ratio = variance / (variance + 2e-3)
    columns = {
        "average_variance": variance, "normalized_variance": ratio, "noise_ratio": ratio,
        "noise_to_signal": variance / 2e-3, "mean_squared_norm": variance + 2e-3, "bias_squared": 0 * variance,
        "mse": variance, "gradient_evaluations": 1000 + 0 * variance, "seconds": 0.01 + 0 * variance,
    }  # fmt: skip
    for name, values in columns.items():
        _write(group, name, values)
    layers = group.create_group("layers", track_order=True)
    for depth, layer in enumerate(LAYERS):
        group = layers.create_group(layer)
        _write(group, "average_variance", variance * (1 + depth))
        _write(group, "variance", np.multiply.outer(variance, np.linspace(1 + depth, 0, LAYERS[layer])))


def _write_refreshes(file, refreshes, estimators, generator):
    if "svrg" in estimators:
        _write(file.create_group("refresh/svrg"), "iteration", refreshes)
    for name in (each for each in estimators if each.startswith("gc")):
        group = file.create_group(f"refresh/{name}")
        weights = generator.dirichlet(np.full(CLUSTERS, 1.5))
        assignments = generator.choice(CLUSTERS, size=(len(refreshes), EXAMPLES), p=weights)
        sizes = np.stack([np.bincount(row, minlength=CLUSTERS) for row in assignments])
        _write(group, "iteration", refreshes)
        _write(group, "assignments", assignments.astype(np.int32))
        _write(group, "sizes", sizes)
        _write(group, "scatter", (sizes.astype(float) ** 2) * generator.random(sizes.shape))
        _write(group, "parameter_scatter", np.outer(np.geomspace(1, 0.1, len(refreshes)), [5.0, 0.1, 3.0, 0.2]))
        _write(group, "objective", np.geomspace(2, 1, 10) * np.ones((len(refreshes), 1)))


def _write_drift(group):
    since = np.tile(np.arange(1, REFRESH_EVERY), 2)
    _write(group, "iteration", np.concatenate([np.arange(1, REFRESH_EVERY), np.arange(1, REFRESH_EVERY) + REFRESH_EVERY]))
    _write(group, "since_snapshot", since)
    _write(group, "distance", np.sqrt(since))
    _write(group, "curvature", 1 + 1 / since)


def _write_metainit(group):
    _write(group, "step", np.arange(11))
    _write(group, "quotient", 1 + np.geomspace(1, 0.1, 11))


def _write_gradients(group, plain, generator, share):
    norms = np.sort(plain[:, None] * np.exp(2 * generator.standard_normal((len(plain), EXAMPLES))), axis=1)
    edges = np.geomspace(1e-8, 1e2, 65)
    _write(group, "squared_norm_quantiles", np.quantile(norms, np.linspace(0, 1, 21), axis=1).T)
    _write(group, "squared_norm_histogram", np.stack([np.histogram(row, edges)[0] for row in norms]))
    group["squared_norm_histogram_edges"] = edges
    for layer, size in LAYERS.items():
        _write(group.create_group(f"layers/{layer}"), "full_gradient", np.outer(plain, np.linspace(-1, 1, size)))
    if share is not None:
        _write(group, "top_percent_share", np.full(len(plain), share))
