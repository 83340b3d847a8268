"""`gradist.measure`: the moments of gradient estimators for any `nn.Module`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from torch import Tensor, nn

from gradist import _core
from gradist.clustering import Clustering
from gradist.probe import Data, LossFunction, ModelSource, separate_examples, unchanged

__all__ = ["Measurement", "in_order", "measure"]


class Measurement(Mapping[str, _core.Moments]):
    """What a measurement says of each estimator: `m["svrg"].average_variance` and the other attributes of `Moments`."""

    def __init__(self, estimators: Sequence[str], measured: _core.Measurement, source: ModelSource) -> None:
        self._moments = dict(zip(estimators, measured.moments, strict=True))
        self._measured = measured
        self._names = tuple(source.parameter_names)
        self._coverage = dict(source.coverage)

    def __getitem__(self, estimator: str) -> _core.Moments:
        return self._moments[estimator]

    def __iter__(self) -> Iterator[str]:
        return iter(self._moments)

    def __len__(self) -> int:
        return len(self._moments)

    @property
    def squared_norms(self) -> Tensor | None:
        """||g_i||^2 of every example, [N] in the order of the data; by "subset" [n]; None by "sampled"."""
        return self._measured.squared_norms

    @property
    def squared_gradient_norm(self) -> float:
        """||g||^2 of the full gradient; an unbiased estimate where the method is one."""
        return self._measured.squared_gradient_norm

    @property
    def full_gradient(self) -> dict[str, Tensor]:
        """g by parameter, float64; an estimate where the method is one."""
        return dict(zip(self._names, self._measured.full_gradient, strict=False))

    @property
    def coordinate_variance(self) -> dict[str, dict[str, Tensor]]:
        """Var of each coordinate of the estimates, {estimator: {parameter: tensor of its shape}}, float64; with `per_coordinate` only.
        Their mean over all coordinates is `average_variance`."""
        return {name: dict(zip(self._names, each.variance, strict=True)) for name, each in self.items() if each.variance}

    @property
    def coverage(self) -> dict[str, str]:
        """How the gradients of each parameter were found: "linear", "bias", "one-by-one", "unused"; empty by "sampled"."""
        return self._coverage

    def __repr__(self) -> str:
        variances = ", ".join(f"{name} {each.average_variance:.3g}" for name, each in self.items())
        return f"<gradist.Measurement: average variance {variances}>"


def measure(
    model: nn.Module,
    loss_fn: LossFunction,
    data: Data,
    *,
    estimators: Sequence[str] = ("sg-b", "sg-2b", "gc"),
    batch_size: int = 128,
    replacement: bool = True,
    snapshot: Mapping[str, Tensor] | None = None,
    clustering: Clustering | None = None,
    method: str = "exact",
    examples: int = 1000,
    draws: int = 50,
    clusters: int = 0,
    allocation: str = "proportional",
    importance_mix: float = 0.25,
    gc_iterations: int = 10,
    per_coordinate: bool = False,
    seed: int = 0,
    max_memory: int = 0,
) -> Measurement:
    """Moments of gradient estimators at the model's present parameters.

    Works for any module. Gradients of single examples come from recorded layers (linear, convolutions, embeddings, norms,
    attention, your own by `gradist.rule`) and, for parameters used elsewhere, from one backward pass an example: exact too, but slow.
    Frozen parameters are left out. The model, its gradients, buffers and hooks, and torch's random state are left as they are.

    Args:
        model: the module; its training mode is the one measured.
        loss_fn: loss_fn(outputs, targets) -> [B], one loss an example.
        data: inputs and targets of all N examples, tensors with the examples in dimension 0 (or tuples, lists, dicts); or a
            torch Dataset of pairs (input, target), which is read once into tensors.
        estimators: of "sg-b", "sg-2b", "svrg" (needs a snapshot), "gc", "gc-descent", "gc-importance" and "sg-importance".
        batch_size: B.
        replacement: whether estimates draw examples with replacement.
        snapshot: a state dict of the model at an earlier iteration; its trainable parameters make svrg's control
            variate. Frozen ones and buffers (running statistics) are the present ones on both sides.
        clustering: the clusters gc, gc-descent and gc-importance draw from; without, the examples are clustered here, at the present parameters.
        method: "exact", one pass over all examples; "subset" of `examples` random ones, or "sampled", `draws` estimates of
            each estimator, both with a 95 % interval. "sampled" works for batch norm and dropout in train mode too, for "sg-b", "sg-2b", and
            "gc" and "gc-descent" with a clustering.
        clusters: K where the examples are clustered here; 0: as many as the batch size.
        allocation: how B draws are divided among fewer clusters: "proportional" to their sizes, "equal", or "neyman", which
            makes the variance least at the parameters where the clusters were made.
        importance_mix: uniform part, in (0, 1], of draws by the norms of gradients.
        gc_iterations: steps of that clustering, sweeps of gc-descent.
        per_coordinate: keep the variance of each coordinate too, 8 bytes a parameter and estimator. For a linear model a
            coordinate is a feature: where SVRG pays and where it does not can be seen feature by feature.
        seed: of everything random.
        max_memory: bytes for the factors of a chunk of examples; 0: 256 MiB.

    Example:
        >>> loss_fn = torch.nn.CrossEntropyLoss(reduction="none")
        >>> m = gradist.measure(model, loss_fn, (inputs, targets), estimators=["sg-b", "gc"], batch_size=64)
        >>> m["gc"].average_variance / m["sg-b"].average_variance
        >>> m = gradist.measure(model, loss_fn, (inputs, targets), estimators=["sg-b", "svrg"], snapshot=before, per_coordinate=True)
        >>> m.coordinate_variance["svrg"]["weight"] / m.coordinate_variance["sg-b"]["weight"]     # for a linear model [1, features]
    """
    source = ModelSource(model, loss_fn, data)
    names = [estimators] if isinstance(estimators, str) else list(estimators)
    _check_choices(names, snapshot, clustering, source)
    for name, value in (("clusters", clusters), ("max_memory", max_memory), ("seed", seed)):
        if value < 0:
            raise ValueError(f"{name} = {value}, must be >= 0")
    with unchanged(source.layers):
        if method != "sampled" or _needs_separate_examples(names, clustering):
            separate_examples(source)
        measured = _core.measure(
            source,
            names,
            batch_size=batch_size,
            replacement=replacement,
            clusters=clusters if clustering is None else len(clustering),
            allocation=allocation,
            importance_mix=importance_mix,
            gc_iterations=gc_iterations,
            method=method,
            examples=examples,
            draws=draws,
            per_coordinate=per_coordinate,
            max_memory=max_memory,
            snapshot=None if snapshot is None else in_order(snapshot, source),
            clustering=None if clustering is None else clustering._core,
            seed=seed,
        )
    # The sums of moments that are not numbers may look like zeros.
    if not all(gradient.isfinite().all() for gradient in measured.full_gradient):
        raise ValueError("the full gradient is not finite, must be: look for nan or inf in the data, the parameters and the losses")
    return Measurement(names, measured, source)


def _needs_separate_examples(names: Sequence[str], clustering: Clustering | None) -> bool:
    """Whether a refresh looks at single examples, whatever the measurement does."""
    refreshed = {"svrg", "sg-importance"} | ({"gc", "gc-descent", "gc-importance"} if clustering is None else set())
    return not refreshed.isdisjoint(names)


def _check_choices(
    names: Sequence[str], snapshot: Mapping[str, Tensor] | None, clustering: Clustering | None, source: ModelSource
) -> None:
    if not names or len(set(names)) < len(names):
        raise ValueError(f"estimators = {list(names)}, must name at least one, none twice")
    if "svrg" in names and snapshot is None:
        raise ValueError(
            "estimator 'svrg' needs snapshot = a state dict of an earlier iteration (at the present parameters its variance is 0)"
        )
    if clustering is not None and not isinstance(clustering, Clustering):
        raise ValueError(f"clustering is a {type(clustering).__name__}, must be a gradist.Clustering")
    if clustering is not None and len(clustering.assignments) != source.examples:
        raise ValueError(f"clustering has {len(clustering.assignments)} examples, must have as many as the data, {source.examples}")


def in_order(snapshot: Mapping[str, Tensor], source: ModelSource) -> list[Tensor]:
    """The snapshot's parameters in the order of the source's."""
    ordered = []
    for name, parameter in zip(source.parameter_names, source.parameters, strict=True):
        if name not in snapshot:
            raise ValueError(f"snapshot has no parameter {name!r}, must be a state dict of this model")
        value = snapshot[name].detach()
        if value.shape != parameter.shape:
            raise ValueError(f"snapshot's {name!r} has shape {list(value.shape)}, must be {list(parameter.shape)}")
        ordered.append(value.to(parameter))
    return ordered
