from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

__version__: str

class Progress(Protocol):
    def begin(self, total: int) -> None: ...
    def logged(self, iteration: int, train_loss: float) -> None: ...
    def progressed(self, iteration: int) -> None: ...
    def end(self) -> None: ...

class Source(Protocol):
    @property
    def examples(self) -> int: ...
    @property
    def parameters(self) -> list[Tensor]: ...
    @property
    def parameter_names(self) -> list[str]: ...
    def gradients(self, indices: Tensor) -> GradientBatch: ...
    def weighted_gradient(self, indices: Tensor, weights: Tensor) -> list[Tensor]: ...

def run(*, preset: str, config: str | bytes, options: Sequence[tuple[str, str | bytes]], progress: Progress | None) -> bool: ...
def program(arguments: Sequence[str | bytes], progress: Progress | None = None) -> int: ...
def run_options() -> list[tuple[str, str, str]]: ...
def estimator_names() -> list[str]: ...
def rf_options() -> list[tuple[str, str, str]]: ...
def rf_sweep(*, config: str | bytes, options: Sequence[tuple[str, str | bytes]], progress: Progress | None) -> bool: ...
def rf_merge(options: Sequence[tuple[str, str | bytes]]) -> tuple[int, int]:
    """Models that are there, and models of the grid."""

def rf_compute(config: str, models: Sequence[int], threads: int) -> dict[int, dict[str, list[float]]]:
    """The columns of each model, by its number in the grid."""

def rf_make(
    *, n: int, d_in: int, h_teacher: int, h_student: int, seed: int, activation: str, center_labels: bool
) -> tuple[NDArray[np.float32], NDArray[np.int64]]: ...
def rf_moments(
    *,
    features: NDArray[np.float64],
    labels: NDArray[np.float64],
    weight: NDArray[np.float64],
    bias: NDArray[np.float64],
    batch_size: int,
    estimator: str,
    loss: str,
    snapshot: tuple[NDArray[np.float64], NDArray[np.float64]] | None,
    assignments: NDArray[np.int64] | None,
    probabilities: NDArray[np.float64] | None,
    gc_iterations: int,
    seed: int,
) -> Moments: ...

class OpenSweep:
    """The file of a sweep whose models are computed elsewhere."""

    def __init__(self, config: str | bytes, options: Sequence[tuple[str, str | bytes]]) -> None: ...
    @property
    def config(self) -> str: ...
    @property
    def groups(self) -> list[list[int]]: ...
    def add(self, model: int, columns: dict[str, list[float]]) -> None: ...
    def close(self) -> None: ...

class GradientBatch:
    """Gradients of single examples with respect to all parameters, in factors. B examples, L parameters."""

    def __len__(self) -> int: ...
    @property
    def losses(self) -> Tensor: ...
    @property
    def methods(self) -> list[str]: ...
    def squared_norms(self) -> Tensor: ...
    def squared_norms_per_parameter(self) -> Tensor: ...
    def dense(self, parameter: int) -> Tensor: ...

class Tape:
    """Records one pass so that the gradient of every single example is known in factors."""

    def __init__(self) -> None: ...
    def linear(self, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor: ...
    def backward(
        self, losses: Tensor, parameters: Sequence[Tensor], loss_of_example: Callable[[int], Tensor] | None = None
    ) -> GradientBatch: ...

class Clustering:
    def __init__(self, assignments: Tensor, clusters: int = 0) -> None: ...
    @property
    def assignments(self) -> Tensor: ...
    @property
    def sizes(self) -> list[int]: ...
    @property
    def objective(self) -> float: ...
    @property
    def history(self) -> list[float]: ...

class Moments:
    """Moments of one gradient estimator at its own batch size. P parameters; undefined values are NaN."""

    @property
    def trace_covariance(self) -> float:
        """tr Cov[estimate]"""
    @property
    def average_variance(self) -> float:
        """tr Cov / P"""
    @property
    def normalized_variance(self) -> float:
        """Mean over coordinates of Var / E[estimate^2], those with E = 0 left out."""
    @property
    def noise_ratio(self) -> float:
        """tr Cov / E||estimate||^2"""
    @property
    def noise_to_signal(self) -> float:
        """tr Cov / ||g||^2"""
    @property
    def mean_squared_norm(self) -> float:
        """E||estimate||^2"""
    @property
    def bias_squared(self) -> float:
        """||E[estimate] - g||^2"""
    @property
    def mse(self) -> float:
        """tr Cov + squared bias"""
    @property
    def zero_coordinates(self) -> int:
        """Coordinates left out of normalized_variance."""
    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of average_variance; NaN where it is exact."""
    @property
    def layer_average_variance(self) -> list[float]:
        """The average variance of each parameter, in the model's order."""
    @property
    def gradient_evaluations(self) -> int:
        """Gradients of single examples spent on the measurement."""
    @property
    def seconds(self) -> float:
        """Wall time of the passes it came from, which several estimators may share."""

class Measurement:
    @property
    def moments(self) -> list[Moments]: ...
    @property
    def full_gradient(self) -> list[Tensor]: ...
    @property
    def squared_gradient_norm(self) -> float: ...
    @property
    def squared_norms(self) -> Tensor | None: ...
    @property
    def mean_loss(self) -> float: ...

def lloyd(source: Source, *, clusters: int, iterations: int, max_memory: int, seed: int) -> Clustering: ...
def measure(
    source: Source,
    estimators: Sequence[str],
    *,
    batch_size: int,
    replacement: bool,
    clusters: int,
    gc_iterations: int,
    method: str,
    examples: int,
    draws: int,
    max_memory: int,
    snapshot: Sequence[Tensor] | None,
    clustering: Clustering | None,
    seed: int,
) -> Measurement: ...
