"""Random Features models: hundreds of students with fixed features, trained and measured in closed form. [Faghri20] section 4.2.

    sweep = gradist.rf.sweep(n=[100, 1000], d_in=[100], h_teacher=[100], lr=[0.1, 0.01], seeds=[0, 1])
    sweep.plot()
    features, labels = gradist.rf.make(1000, 100, 100, 1000, seed=0)
    m = gradist.rf.moments(features, labels, weight, bias, batch_size=10, estimator="svrg")
"""

from __future__ import annotations

import contextlib
import math
import os
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

from gradist import _core
from gradist.progress import ProgressBar
from gradist.trace import _check_in_child, _is_growing, _plain, _readable
from gradist.trajectory import _check_known, _in_python_words, _text

if TYPE_CHECKING:
    import xarray
    from matplotlib.figure import Figure

__all__ = ["Sweep", "make", "merge", "moments", "open", "sweep"]

_SCHEMA = "gradist-sweep"
_SCHEMA_VERSION = 1
_TASKS_PER_WORKER = 3


def make(
    n: int,
    d_in: int,
    h_teacher: int,
    h_student: int,
    seed: int,
    *,
    activation: str = "relu",
    center_labels: bool = True,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The training set of a model as a sweep sees it: student features [N, h_student] and labels [N] in {-1, +1}.

    phi = sigma(Theta_s x) with x ~ N(0, I) and unit-norm rows of Theta_s; labels are the sign of a teacher of width
    `h_teacher` minus its mean over the N examples. A larger `n` of the same seed begins with the same features.

    Args:
        activation: sigma of teacher and student: `relu`, `tanh`, `sigmoid` or `identity`.
        center_labels: False for the sign of the teacher's output plus one normal number, as the paper's text has it.

    Raises:
        ValueError: a size < 1, or an unknown activation.
    """
    with _python_words():
        return _core.rf_make(
            n=n,
            d_in=d_in,
            h_teacher=h_teacher,
            h_student=h_student,
            seed=seed,
            activation=activation,
            center_labels=center_labels,
        )


def moments(
    features: ArrayLike,
    labels: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike,
    batch_size: int,
    estimator: str = "sg-b",
    *,
    loss: str = "cross-entropy",
    snapshot: tuple[ArrayLike, ArrayLike] | None = None,
    assignments: ArrayLike | None = None,
    probabilities: ArrayLike | None = None,
    gc_iterations: int = 10,
    seed: int = 0,
) -> _core.Moments:
    """Exact moments of an estimator of a linear readout's gradient, in float64: g_i = r_i [phi_i; 1], so O(N h) for all.

    Args:
        features: phi [N, h], NumPy or torch.
        labels: [N], -1 or +1.
        weight: [h] with a float as `bias`, or [2, h] with `bias` [2]: the two logits of a softmax, the second for +1.
        batch_size: B; `sg-2b` draws 2 B, `gc` and `gc-descent` one example from each of B clusters.
        estimator: `sg-b`, `sg-2b`, `svrg`, `gc`, `gc-descent` or `sg-importance`.
        loss: `cross-entropy`, or `squared` for (z - y)^2 / 2.
        snapshot: svrg's weight and bias; without it the readout itself, where svrg has no variance.
        assignments: the cluster of each example, [N], for gc; without it they are clustered here.
        probabilities: p_i [N] of sg-importance; without them from the norms of the gradients here.
        gc_iterations: clustering steps where they are clustered here.

    Returns:
        The moments of one estimate over the h + 1 parameters, twice as many for two logits; `layer_average_variance` is
        that of the weight and that of the bias.

    Raises:
        ValueError: shapes that do not fit, labels other than -1 and +1, B outside [1, N], an unknown name.
    """
    arrays = [_float64(each) for each in (features, labels, weight, bias)]
    with _python_words():
        return _core.rf_moments(
            features=arrays[0],
            labels=arrays[1],
            weight=arrays[2],
            bias=arrays[3].reshape(-1),
            batch_size=batch_size,
            estimator=estimator,
            loss=loss,
            snapshot=None if snapshot is None else (_float64(snapshot[0]), _float64(snapshot[1]).reshape(-1)),
            assignments=None if assignments is None else np.asarray(_detached(assignments), dtype=np.int64),
            probabilities=None if probabilities is None else _float64(probabilities),
            gc_iterations=gc_iterations,
            seed=seed,
        )


def sweep(*, preset: str = "", config: str | os.PathLike[str] = "", progress: bool = True, client: Any = None, **options: Any) -> Sweep:
    """Trains a student for every point of a grid, measures the gradient estimators on the way, and returns the sweep.

    Args:
        preset: named settings, those of `gradist --list-presets` for `gradist rf`.
        config: a TOML file with options.
        progress: whether to show a progress bar.
        client: a `dask.distributed.Client`; its workers then compute the models, and this process writes them. A worker
            that dies costs what it was computing, which another one does again. The sweep is the same as without.
        **options: the options of `gradist rf` with underscores. Lists are axes of the grid: `n`, `d_in`, `h_teacher`,
            `h_student`, `duplicates`, `batch_size`, `lr`, `weight_decay`, `seeds`. The defaults are the paper's grid of
            324 models. Without `out` the sweep goes to a temporary file that lives as long as the returned object.

    Raises:
        ValueError: an unknown option, or a value that breaks its rule.
        KeyboardInterrupt: Ctrl-C; the file named by `out` holds the models that are done, `resume=True` goes on.

    Example:
        >>> sweep = gradist.rf.sweep(n=[100, 1000], d_in=[100], h_teacher=[100], lr=[0.01], seeds=[0, 1])
        >>> sweep.to_xarray().max_average_variance.mean("seed")
    """
    if options.get("out", ".") == "":
        raise ValueError("out = '', must name a file; leave it out for a temporary one")
    if "merge" in options:
        raise ValueError("unknown option 'merge'; there is gradist.rf.merge")
    folder = None
    if "out" not in options:
        folder = TemporaryDirectory(prefix="gradist-", ignore_cleanup_errors=True)
        options["out"] = Path(folder.name) / "sweep.h5"
    texts = _texts(options)
    bar = ProgressBar(unit="model") if progress else None
    try:
        with _python_words():
            if client is None:
                _core.rf_sweep(preset=preset, config=os.fsencode(config or ""), options=texts, progress=bar)
            else:
                _sweep_on(client, preset, os.fsencode(config or ""), texts, bar)
    finally:
        if bar is not None:
            bar.end()
    return Sweep(options["out"], folder)


def merge(paths: Sequence[str | os.PathLike[str]], out: str | os.PathLike[str], *, overwrite: bool = False) -> Sweep:
    """Puts sweeps of one grid, such as its shards, together in the file `out`.

    Raises:
        ValueError: sweeps of different grids, or that disagree on a model; nothing is written then.
    """
    with _python_words():
        _core.rf_merge(_texts({"merge": [os.fspath(path) for path in paths], "out": out, "overwrite": overwrite}))
    return Sweep(out)


def open(path: str | os.PathLike[str]) -> Sweep:
    """Opens a sweep, also one that is still being written or that a killed writer left behind."""
    return Sweep(path)


class Sweep:
    """A sweep: numbers over the axes of its grid, NaN where a model is not there yet.

    `sweep["max_average_variance"]` is an array over the axes that `sweep.dimensions` names for it.
    """

    def __init__(self, path: str | os.PathLike[str], folder: TemporaryDirectory[str] | None = None) -> None:
        self.path = os.fsdecode(path)
        self._folder = folder  # a temporary folder lives as long as its sweep
        self.refresh()

    def refresh(self) -> Sweep:
        """Reads what has been written since. Returns the sweep itself."""
        if not os.path.exists(self.path):
            raise FileNotFoundError(f"{self.path}: no such file")
        with _readable(self.path):
            growing = _is_growing(self.path)
            if growing:
                _check_in_child(self.path)
            with h5py.File(self.path, "r", swmr=growing, locking="best-effort") as file:
                self.attributes = {name: _plain(value) for name, value in file.attrs.items()}
                self._check_schema()
                self._read(file)
        return self

    @property
    def config(self) -> dict[str, Any]:
        """Every option that determines the result, as the keywords of `gradist.rf.sweep`."""
        return {name.replace("-", "_"): value for name, value in tomllib.loads(self.attributes["config"]).items()}

    @property
    def dimensions(self) -> dict[str, tuple[str, ...]]:
        """The axes of each quantity."""
        return dict(self._dimensions)

    @property
    def estimators(self) -> list[str]:
        return [str(name) for name in self._arrays["estimator"]]

    @property
    def complete(self) -> float:
        """The fraction of the grid's models that are there."""
        return float(self._arrays["complete"].mean())

    def __getitem__(self, name: str) -> NDArray[Any]:
        if name not in self._arrays:
            raise KeyError(f"{self.path} has no {name}; it has {', '.join(self._arrays)}")
        return self._arrays[name]

    def __repr__(self) -> str:
        axes = ", ".join(f"{name} {len(self[name])}" for name in self._dimensions["complete"] if len(self[name]) > 1)
        return f"<gradist.rf.Sweep {self.path}: {axes or 'one model'}; {self.complete:.0%} complete>"

    def to_xarray(self) -> xarray.Dataset:
        """Everything as one `xarray.Dataset` over the axes of the grid, `estimator` and `iteration`."""
        import xarray

        axes = {name for dimensions in self._dimensions.values() for name in dimensions}
        values = {
            name: xarray.Variable(dimensions, self._arrays[name], {"long_name": self._long_names.get(name, name)})
            for name, dimensions in self._dimensions.items()
        }
        return xarray.Dataset(
            {name: value for name, value in values.items() if name not in axes},
            {name: value for name, value in values.items() if name in axes},
            self.attributes,
        )

    def plot(self, figure: str = "average-variance", **options: Any) -> Figure:
        """A figure over the overparametrization h_student / N, error bars over the axes that it does not show.

        `average-variance` ([Faghri20] Fig. 4), `normalized-variance` (Fig. 5), `duplicates` (Fig. 8) or `errors` (double
        descent). Options are those of the function of that name in `gradist.sweep_plots`: `statistic="mean"` instead of
        `"max"` over the last 70 % of the iterations (Fig. 9), `width` in inches.
        """
        from gradist import sweep_plots

        return sweep_plots.make_figure(figure, self, **options)

    def close(self) -> None:
        """Removes a temporary file; the numbers stay."""
        if self._folder is not None:
            self._folder.cleanup()

    def __enter__(self) -> Sweep:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _check_schema(self) -> None:
        schema, version = (self.attributes.get(name) for name in ("schema", "schema_version"))
        if schema != _SCHEMA:
            raise ValueError(f"{self.path}: not a gradist sweep (attribute schema is {schema!r}, must be {_SCHEMA!r})")
        if version != _SCHEMA_VERSION:
            raise ValueError(f"{self.path}: sweep schema {version}, this version of gradist reads schema {_SCHEMA_VERSION}")

    def _read(self, file: h5py.File) -> None:
        self._arrays: dict[str, NDArray[Any]] = {}
        self._dimensions: dict[str, tuple[str, ...]] = {}
        self._long_names: dict[str, str] = {}
        grid = _axes_of(file["complete"], 0)
        for name, dataset in file.items():
            text = h5py.check_string_dtype(dataset.dtype) is not None
            self._arrays[name] = np.asarray(dataset.asstr()[()] if text else dataset[()])
            self._long_names[name] = str(_plain(dataset.attrs.get("long_name", name)))
            is_axis = dataset.ndim < len(grid)
            self._dimensions[name] = (name,) if is_axis else (*grid, *_axes_of(dataset, len(grid)))


def _axes_of(dataset: h5py.Dataset, first: int) -> list[str]:
    """The names of its axes from number `first` on; asking for one takes as long as reading the numbers."""
    return [dataset.dims[axis][0].name.strip("/") for axis in range(first, dataset.ndim)]


def _sweep_on(client: Any, preset: str, config: bytes, texts: list[tuple[str, bytes]], bar: ProgressBar | None) -> None:
    """Computes what a sweep lacks on the workers of a Dask cluster and writes each task's models as they come."""
    from distributed import as_completed

    opened = _core.OpenSweep(preset, config, texts)
    try:
        groups = opened.groups
        workers = max(1, len(client.scheduler_info()["workers"]))
        if bar is not None:
            bar.begin(sum(map(len, groups)))
        tasks = [
            client.submit(_compute, opened.config, models, pure=False)
            for models in _pieces(groups, _TASKS_PER_WORKER * workers)
        ]
        done = 0
        try:
            for task, computed in as_completed(tasks, with_results=True):  # type: ignore[no-untyped-call]
                for model, columns in computed.items():
                    opened.add(model, columns)
                done += len(computed)
                task.release()
                if bar is not None:
                    bar.progressed(done)
        finally:
            client.cancel(tasks)
    finally:
        opened.close()


def _compute(config: str, models: list[int]) -> dict[int, dict[str, list[float]]]:
    """What a worker does: some models, on one thread."""
    return _core.rf_compute(config, models, 1)


def _pieces(groups: list[list[int]], wanted: int) -> list[list[int]]:
    """Groups of models that share features, cut into about as many pieces as wanted, so that no worker is idle."""
    cuts = math.ceil(wanted / max(1, len(groups)))
    pieces = [group[cut::cuts] for group in groups for cut in range(cuts)]
    return [piece for piece in pieces if piece]


def _texts(options: dict[str, Any]) -> list[tuple[str, bytes]]:
    """Options as on the command line."""
    names = {name.replace("-", "_"): name for name, _, _ in _core.rf_options()}
    for name in options:
        _check_known(name, names)
    return [(names[name], os.fsencode(_text(name, value))) for name, value in options.items()]


@contextlib.contextmanager
def _python_words() -> Iterator[None]:
    """An error of the core names the option as Python does."""
    try:
        yield
    except ValueError as error:
        raise ValueError(_in_python_words(str(error))) from None


def _detached(value: Any) -> Any:
    """A tensor without its history, anything else as it is."""
    return value.detach().cpu().numpy() if hasattr(value, "detach") else value


def _float64(value: Any) -> NDArray[np.float64]:
    return np.ascontiguousarray(_detached(value), dtype=np.float64)
