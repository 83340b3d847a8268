"""Reading the HDF5 traces that runs write (schema 1), also while a run still writes them or after it was killed."""

from __future__ import annotations

import builtins
import contextlib
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeVar, overload

import h5py
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import xarray
    from matplotlib.figure import Figure

__all__ = [
    "DriftSeries",
    "EstimatorSeries",
    "GradientSeries",
    "MetaInitSeries",
    "RefreshSeries",
    "Trace",
    "TrajectorySeries",
    "open",
]

Array = NDArray[Any]
T = TypeVar("T")

_SCHEMA = "gradist-trace"
_SCHEMA_VERSION = 1
_CHILD_SECONDS = 30


@contextlib.contextmanager
def _readable(path: str) -> Iterator[None]:
    """Whatever HDF5 says about a damaged file becomes one line that names the file."""
    try:
        yield
    except PermissionError:
        raise PermissionError(f"{path}: permission denied") from None
    except (OSError, RuntimeError, KeyError, TypeError, MemoryError) as error:
        raise OSError(f"{path}: cannot be read, the file is truncated or damaged") from error


class _Column:
    """One dataset of a group, read when asked for and kept until the next refresh."""

    def __init__(self, doc: str) -> None:
        self.__doc__ = doc

    def __set_name__(self, owner: type[_Group], name: str) -> None:
        self.name = name

    @overload
    def __get__(self, group: None, owner: type[_Group]) -> _Column: ...

    @overload
    def __get__(self, group: _Group, owner: type[_Group]) -> Array: ...

    def __get__(self, group: _Group | None, owner: type[_Group]) -> _Column | Array:
        if group is None:
            return self
        try:
            return group[self.name]
        except KeyError as error:
            raise AttributeError(error.args[0]) from None


class _Group(Mapping[str, Array]):
    """The datasets of one HDF5 group by name; the ones of the schema are attributes too.

    While a run writes, some datasets are longer than others for a moment: rows that are not complete are not shown.
    """

    def __init__(self, trace: Trace, group: str) -> None:
        self._trace = trace
        self._group = group
        self._cache: dict[str, Array] = {}

    def __getitem__(self, name: str) -> Array:
        if name not in self._cache:
            self._cache[name] = self._trace._read(f"{self._group}/{name}")
        return self._cache[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._trace._datasets(self._group))

    def __len__(self) -> int:
        return len(self._trace._datasets(self._group))

    def __contains__(self, name: object) -> bool:
        return name in self._trace._datasets(self._group)

    def __repr__(self) -> str:
        return f"<{self._group}: {', '.join(self)}>"


class TrajectorySeries(_Group):
    """What the run itself did, one value a log point."""

    iteration = _Column("SGD steps taken so far, [T]")
    epoch = _Column("passes over the training set so far, [T]")
    train_loss = _Column("mean loss over the training set, [T]")
    train_accuracy = _Column("share of training examples predicted right, [T]")
    test_loss = _Column("mean loss over the test set, [T]")
    test_accuracy = _Column("share of test examples predicted right, [T]")
    learning_rate = _Column("learning rate of the next step, [T]")
    squared_gradient_norm = _Column("||g||^2, [T]")
    distance_to_snapshot = _Column("||theta - theta~||, [T]")
    snapshot_curvature = _Column("||g - g~|| / ||theta - theta~||, [T]")
    parameter_hash = _Column("hash of the parameters' bytes: equal for equal trajectories, [T]")
    seconds = _Column("wall time since the run began, [T]")


class EstimatorSeries(_Group):
    """The moments of one gradient estimator, one value a log point. P parameters; tr Cov is that of one estimate."""

    average_variance = _Column("tr Cov / P, [T]")
    normalized_variance = _Column("mean over coordinates of Var / E[estimate^2], [T]")
    noise_ratio = _Column("tr Cov / E||estimate||^2, [T]")
    noise_to_signal = _Column("tr Cov / ||g||^2, [T]")
    mean_squared_norm = _Column("E||estimate||^2, [T]")
    bias_squared = _Column("||E[estimate] - g||^2, [T]")
    variance_ratio = _Column("tr Cov / that of the plain mean of the same draws, [T]; NaN without a snapshot")
    variance_ratio_low = _Column("lower end of the 95 % interval of variance_ratio, [T]; measured by subset or sampled only")
    variance_ratio_high = _Column("upper end of the 95 % interval of variance_ratio, [T]; measured by subset or sampled only")
    mse = _Column("tr Cov + squared bias, [T]")
    gradient_evaluations = _Column("single-example gradients spent on the measurement, [T]")
    seconds = _Column("wall time of the measurement, [T]")
    ci_low = _Column("lower end of the 95 % interval of average_variance, [T]; measured by subset or sampled only")
    ci_high = _Column("upper end of the 95 % interval of average_variance, [T]; measured by subset or sampled only")

    @property
    def layers(self) -> dict[str, Array]:
        """The average variance of each parameter, {name: [T]}."""
        return self._trace._arrays(f"{self._group}/layers", "average_variance")

    @property
    def coordinate_variance(self) -> dict[str, Array]:
        """The variance of each coordinate, {parameter: [T, *shape]}; empty unless the run was told `per_coordinate`."""
        return self._trace._arrays(f"{self._group}/layers", "variance")


class RefreshSeries(_Group):
    """What an estimator's refreshes made, one row a refresh. R refreshes, N examples, K clusters."""

    iteration = _Column("iterations of the refreshes, [R]")
    assignments = _Column("cluster of every example, [R, N]; gc only")
    gradient_evaluations = _Column("single-example gradients spent, [R]")
    seconds = _Column("wall time of the refresh, [R]")
    sizes = _Column("examples in every cluster, [R, K]; gc only")
    objective = _Column("clustering objective after each step, [R, n]; gc only")
    scatter = _Column("N_k SSE_k of every cluster, exact, [R, K]; gc only")
    parameter_scatter = _Column("sum_k N_k SSE_k of every parameter alone, exact, [R, L]; gc only")


class GradientSeries(_Group):
    """How the squared norms of single-example gradients are distributed, one row a log point."""

    squared_norm_quantiles = _Column("quantiles 0, 5, ..., 100 % of ||g_i||^2, [T, 21]")
    squared_norm_histogram = _Column("examples in each bin of ||g_i||^2, [T, 64]")
    squared_norm_histogram_edges = _Column("edges of the bins, [65]")
    top_percent_share = _Column("share of sum ||g_i||^2 that the largest 1 % of the examples carry, [T]")


class DriftSeries(_Group):
    """How far SGD came from the last snapshot, one row an iteration that `drift_every` follows. D rows in all."""

    iteration = _Column("SGD steps taken so far, [D]")
    since_snapshot = _Column("SGD steps since the last snapshot, [D]")
    distance = _Column("||theta - theta~||, [D]")
    curvature = _Column("||mean of g_i - g~_i over a minibatch|| / ||theta - theta~||, [D]")


class MetaInitSeries(_Group):
    """How MetaInit scaled the initial weights, one value a step. S steps."""

    step = _Column("steps done, 0 to S, [S + 1]")
    quotient = _Column("gradient quotient of a minibatch of noise, [S + 1]")


class Trace(Mapping[str, EstimatorSeries]):
    """A trace file. `trace["svrg"].average_variance` is an array with one value a log point.

    Values are read when asked for. While the run still writes, `refresh()` shows what has been added since.
    """

    def __init__(self, path: str | os.PathLike[str], folder: TemporaryDirectory[str] | None = None) -> None:
        self.path = os.fsdecode(path)
        self._folder = folder  # a temporary folder lives as long as its trace
        self._file = _open_file(self.path)
        self._cache: dict[str, Any] = {}

    # ---- the file

    def refresh(self) -> Trace:
        """Shows what the run has written since. Returns the trace itself."""
        self._file.close()
        self._file = _open_file(self.path, known=True)
        self._cache.clear()
        return self

    def close(self) -> None:
        """Closes the file; a temporary one goes away."""
        self._file.close()
        if self._folder is not None:
            self._folder.cleanup()

    def __enter__(self) -> Trace:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # ---- the run

    @property
    def attributes(self) -> dict[str, Any]:
        """The attributes of the file."""
        self._check_open()
        with _readable(self.path):
            return {name: _plain(value) for name, value in self._file.attrs.items()}

    @property
    def config(self) -> dict[str, Any]:
        """Every option of the run, as the keywords of `gradist.run`."""
        try:
            return {name.replace("-", "_"): value for name, value in tomllib.loads(self.config_text).items()}
        except tomllib.TOMLDecodeError as error:
            raise ValueError(f"{self.path}: attribute config is not TOML: {error}") from error

    @property
    def config_text(self) -> str:
        """The same as TOML, which `gradist run --config` takes."""
        return str(self._attribute("config"))

    @property
    def gradist_version(self) -> str:
        return str(self._attribute("gradist_version"))

    @property
    def parameters(self) -> int:
        """P, the parameters of the model."""
        return int(self._attribute("parameters"))

    @property
    def examples(self) -> int:
        """N, the training examples."""
        return int(self._attribute("examples"))

    @property
    def batch_size(self) -> int:
        """B."""
        return int(self._attribute("batch_size"))

    # ---- the measurements

    @property
    def iterations(self) -> Array:
        """Iterations of the log points, [T]."""
        return self.trajectory.iteration

    @property
    def estimators(self) -> tuple[str, ...]:
        """The names of the estimators, in the order of the run."""
        return tuple(self._groups("estimators"))

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of the model's parameters."""
        return tuple(self._groups(f"estimators/{self.estimators[0]}/layers")) if self.estimators else ()

    @property
    def full_gradient(self) -> dict[str, Array]:
        """g, the mean of every unbiased estimate, {parameter: [T, *shape]}; empty unless the run was told `per_coordinate`."""
        return self._arrays("gradients/layers", "full_gradient")

    @property
    def trajectory(self) -> TrajectorySeries:
        return self._cached("trajectory", lambda: TrajectorySeries(self, "trajectory"))

    @property
    def gradients(self) -> GradientSeries:
        return self._cached("gradients", lambda: GradientSeries(self, "gradients"))

    @property
    def drift(self) -> DriftSeries:
        """Distance and curvature from the snapshot; empty unless the run was told `drift_every`."""
        return self._cached("drift", lambda: DriftSeries(self, "drift"))

    @property
    def metainit(self) -> MetaInitSeries | None:
        """What MetaInit did before the first step; None for a run with another `init`."""
        if not self._datasets("metainit"):
            return None
        return self._cached("metainit", lambda: MetaInitSeries(self, "metainit"))

    @property
    def refreshes(self) -> dict[str, RefreshSeries]:
        """What the refreshes made, for each estimator that has some."""
        return {name: self._refresh_series(name) for name in self._groups("refresh")}

    def __getitem__(self, estimator: str) -> EstimatorSeries:
        if estimator not in self.estimators:
            raise KeyError(f"{estimator!r} is not an estimator of {self.path}; it has {', '.join(self.estimators)}")
        return self._cached(f"estimators/{estimator}", lambda: EstimatorSeries(self, f"estimators/{estimator}"))

    def __iter__(self) -> Iterator[str]:
        return iter(self.estimators)

    def __len__(self) -> int:
        return len(self.estimators)

    def __repr__(self) -> str:
        if not self._file:
            return f"<gradist.Trace {self.path}, closed>"
        return f"<gradist.Trace {self.path}: {', '.join(self.estimators)}; {len(self.iterations)} log points>"

    # ---- other shapes

    def to_xarray(self) -> xarray.Dataset:
        """Everything as one `xarray.Dataset`, over `iteration`, `estimator`, `layer`, `quantile` and `bin`; what a refresh
        made is named after its estimator, like `gc_sizes` over `gc_refresh` and `gc_cluster`."""
        from gradist import dataset

        return dataset.from_trace(self)

    def plot(self, figure: str = "variances", **options: Any) -> Figure:
        """One of the report's figures, ready for a paper: `variances` (average and normalized variance side by side),
        `average-variance`, `normalized-variance`, `losses`, `layers`, `cluster-sizes`, `cluster-variance`, `squared-norms`,
        `variance-ratio`, `coordinates`, `drift` or `metainit`.

        Options are those of the function of that name in `gradist.plots`, such as `width` in inches and `window`, the
        number of log points that the rolling mean and its standard deviation are taken over.
        """
        from gradist import plots

        return plots.make_figure(figure, self, **options)

    # ---- reading

    def _cached(self, key: str, make: Callable[[], T]) -> T:
        if key not in self._cache:
            self._cache[key] = make()
        value: T = self._cache[key]
        return value

    def _attribute(self, name: str) -> Any:
        attributes = self.attributes
        if name not in attributes:
            raise ValueError(f"{self.path}: attribute {name} is missing, this is not a complete gradist trace")
        return attributes[name]

    def _refresh_series(self, estimator: str) -> RefreshSeries:
        return self._cached(f"refresh/{estimator}", lambda: RefreshSeries(self, f"refresh/{estimator}"))

    def _check_open(self) -> None:
        if not self._file:
            raise ValueError(f"{self.path}: the trace is closed, open it again")

    def _members(self, group: str, kind: type) -> list[str]:
        self._check_open()
        with _readable(self.path):
            node = self._file.get(group)
            return [name for name in node if isinstance(node[name], kind)] if isinstance(node, h5py.Group) else []

    def _arrays(self, layers: str, name: str) -> dict[str, Array]:
        """A dataset of each parameter's group, where the trace has it."""
        return {layer: self._read(f"{layers}/{layer}/{name}") for layer in self._groups(layers) if name in self._datasets(f"{layers}/{layer}")}

    def _groups(self, group: str) -> list[str]:
        return self._cached(f"groups of {group}", lambda: self._members(group, h5py.Group))

    def _datasets(self, group: str) -> list[str]:
        return self._cached(f"datasets of {group}", lambda: self._members(group, h5py.Dataset))

    def _read(self, name: str) -> Array:
        self._check_open()
        with _readable(self.path):
            dataset = self._file.get(name)
        if not isinstance(dataset, h5py.Dataset):
            raise KeyError(f"{self.path} has no {name}")
        with _readable(self.path):
            return np.asarray(dataset[: self._rows(name)] if _grows(dataset) else dataset[()])

    def _rows(self, name: str) -> int:
        """Log points, refreshes of an estimator, rows of the drift or steps of MetaInit that are complete in every dataset."""
        parts = name.split("/")
        alone = {"refresh": ("/".join(parts[:2]),), "drift": ("drift",), "metainit": ("metainit",)}
        groups = alone.get(parts[0], ("trajectory", "estimators", "gradients"))
        return self._cached(f"rows of {groups[0]}", lambda: min(self._lengths(groups), default=0))

    def _lengths(self, groups: tuple[str, ...]) -> list[int]:
        lengths: list[int] = []

        def visit(_: str, node: object) -> None:
            if isinstance(node, h5py.Dataset) and _grows(node):
                lengths.append(node.shape[0])

        for group in groups:
            if isinstance(node := self._file.get(group), h5py.Group):
                node.visititems(visit)
        return lengths


def _open_file(path: str, *, known: bool = False) -> h5py.File:
    if not os.path.exists(path):
        raise FileNotFoundError(f"{path}: no such file")
    if os.path.isdir(path):
        raise IsADirectoryError(f"{path}: is a folder, must be a trace")
    with _readable(path):
        growing = _is_growing(path)
        if growing and not known:
            _check_in_child(path)
        file = h5py.File(path, "r", swmr=growing, locking="best-effort")
    try:
        _check_schema(path, file)
    except Exception:
        file.close()
        raise
    return file


def _is_growing(path: str) -> bool:
    """Whether a run is writing the file, or was killed while it did: what HDF5's superblock (version 3) says in its flags.

    Only such a file is opened as one that grows: there HDF5 takes damage for a write in progress, and waits for its end.
    """
    with builtins.open(path, "rb") as file:
        head = file.read(12)
    return len(head) == 12 and head[:8] == b"\x89HDF\r\n\x1a\n" and head[8] == 3 and head[11] == 0b101


def _check_in_child(path: str) -> None:
    """A file whose writer was killed may be damaged, and HDF5 then waits without end: let another process find out."""
    script = "import h5py, sys; h5py.File(sys.argv[1], 'r', swmr=True, locking='best-effort').visititems(lambda *_: None)"
    try:
        command = [sys.executable, "-c", script, path]
        subprocess.run(command, check=True, timeout=_CHILD_SECONDS, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    except subprocess.SubprocessError as error:
        raise OSError(f"{path}: damaged") from error


def _check_schema(path: str, file: h5py.File) -> None:
    with _readable(path):
        schema, version = (_plain(file.attrs.get(name)) for name in ("schema", "schema_version"))
        complete = "trajectory" in file and "estimators" in file
    if schema != _SCHEMA:
        raise ValueError(f"{path}: not a gradist trace (attribute schema is {schema!r}, must be {_SCHEMA!r})")
    if version != _SCHEMA_VERSION:
        raise ValueError(f"{path}: trace schema {version}, this version of gradist reads schema {_SCHEMA_VERSION}")
    if not complete:
        raise ValueError(f"{path}: not a gradist trace (the groups trajectory and estimators are missing)")


def _grows(dataset: h5py.Dataset) -> bool:
    """Whether rows of the dataset are log points or refreshes; other axes may grow too, but they are scales."""
    growing = bool(dataset.maxshape) and dataset.maxshape[0] is None
    return growing and (not dataset.is_scale or dataset.name.endswith("/iteration"))


def _plain(value: Any) -> Any:
    """An HDF5 attribute as a Python value."""
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.reshape(-1)[0]
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return value.item() if isinstance(value, np.generic) else value


def open(path: str | os.PathLike[str]) -> Trace:
    """Opens a trace, also one that a run is still writing or that a killed run left behind."""
    return Trace(path)
