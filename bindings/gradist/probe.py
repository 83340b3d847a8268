"""Per-example gradients of any `nn.Module`: what estimators and clustering see of a model and its training set."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, IterableDataset, TensorDataset, default_collate

from gradist import _core
from gradist.following import tensors_in, unfollowed
from gradist.layers import Layers
from gradist.recording import recorded, recorded_output

__all__ = [
    "Data",
    "LossFunction",
    "ModelSource",
    "apply_model",
    "check_alone_as_in_batch",
    "data_of",
    "gradients_of",
    "is_random",
    "refuse_coupled",
    "refuse_random",
    "rows",
    "separate_examples",
    "take",
    "trainable",
    "unchanged",
]

_COPIES_OF_FACTORS = 4

Data = tuple[Any, Any] | Dataset[Any]
"""Inputs and targets: tensors whose dimension 0 is the examples, or tuples, lists or dicts of such. A tuple or list of inputs
is passed to the model as arguments, a dict as keywords. A sparse CSR tensor [N, features] stays sparse; the model gets its rows.
Or a `torch.utils.data.Dataset` of pairs (input, target), which is read once, example by example, into tensors: whatever it does
at random is done once."""

LossFunction = Callable[[Any, Any], Tensor]
"""loss_fn(outputs, targets) -> [B], one loss an example."""


class ModelSource:
    """A model, a loss and N examples, as the core's `PythonSource` asks for them.

    Layers of the rule table are recorded by a tape. Whatever else uses a parameter is found by autograd and measured
    exactly, one example at a time. `coverage` says which parameter was measured how.
    """

    def __init__(self, model: nn.Module, loss_fn: LossFunction, data: Data) -> None:
        # A compiled model would bypass the layers' recorded forward.
        self.model: nn.Module = getattr(model, "_orig_mod", model)
        self.loss_fn = loss_fn
        if not isinstance(self.model, nn.Module):
            raise ValueError(f"model is a {type(model).__name__}, must be a torch.nn.Module")
        self.inputs, self.targets, self.examples = data_of(data)
        self.layers = Layers(self.model)
        self.parameter_names, self.parameters = trainable(self.layers)
        self.coverage: dict[str, str] = {}
        self.format = torch.contiguous_format
        """In which inputs that are images [B, C, H, W] are given to the model."""

    def has_images(self) -> bool:
        """Whether inputs are images, to which `format` applies."""
        return any(_is_image(each) for each in tensors_in(self.inputs))

    def losses(self, indices: Tensor) -> Tensor:
        """f_i for the examples `indices` [B], by a plain forward pass."""
        return self._losses(take(self.inputs, indices), take(self.targets, indices), len(indices))

    def _losses(self, inputs: Any, targets: Any, examples: int) -> Tensor:
        return self._checked(self.loss_fn(apply_model(self.model, self._in_format(inputs)), targets), examples)

    def _in_format(self, inputs: Any) -> Any:
        if self.format == torch.contiguous_format:
            return inputs
        return _mapped(inputs, lambda tensor: tensor.to(memory_format=self.format) if _is_image(tensor) else tensor)

    @staticmethod
    def _checked(losses: Any, examples: int) -> Tensor:
        with unfollowed():
            if not isinstance(losses, Tensor) or list(losses.shape) != [examples]:
                shape = list(losses.shape) if isinstance(losses, Tensor) else type(losses).__name__
                raise ValueError(
                    f"loss_fn returned {shape} for {examples} examples, must return one loss each, [{examples}]: "
                    'losses of torch.nn do with reduction="none"'
                )
            if not losses.is_floating_point() or (torch.is_grad_enabled() and not losses.requires_grad):
                raise ValueError("loss_fn's losses do not depend on the model's parameters, must be a differentiable function of them")
        return losses

    def gradients(self, indices: Tensor) -> _core.GradientBatch:
        """g_i of the examples `indices` [B]."""
        with torch.enable_grad():
            tape = _core.Tape(examples=len(indices))
            with recorded(self.layers, tape):
                losses = self.losses(indices)
            batch = tape.backward(losses, self.parameters, lambda i: self._loss_again(indices[i : i + 1]))
        self.coverage = dict(zip(self.parameter_names, batch.methods, strict=True))
        return batch

    def reduced(self, begin: int, end: int, choices: _core.MethodChoices) -> _core.ReducedGradients:
        """Squared norms and sum of g_i for the examples from `begin` to `end`, linear layers' outputs and all that follows rounded as
        `choices` have it."""
        inputs, targets = self.inputs, self.targets
        if end - begin < self.examples:
            inputs, targets = (_mapped(each, lambda tensor: rows(tensor, begin, end)) for each in (inputs, targets))

        def new_tape() -> _core.Tape:
            return _core.Tape(
                examples=end - begin, reduce=True, keep_factors=False, choices=choices, plain_outputs=False, plain_backprops=False
            )

        with torch.enable_grad():
            tape = new_tape()
            outputs = recorded_output(self.layers, tape, self._in_format(inputs))
            if outputs is not None:
                losses = self._checked(self.loss_fn(outputs, targets), end - begin)
            else:
                tape = new_tape()
                with recorded(self.layers, tape):
                    losses = self._losses(inputs, targets, end - begin)
            return tape.backward_reduced(losses, self.parameters, lambda i: self._loss_again(torch.tensor([begin + i])))

    def _loss_again(self, index: Tensor) -> Tensor:
        """f_i for the example `index` [1] by a second run of the model, which must see what the first one saw."""
        refuse_random(self.layers)
        return self.losses(index)[0]

    def bytes_an_example(self) -> int:
        """Memory of one example's factors in a pass, with the copies the pass makes of them."""
        return _COPIES_OF_FACTORS * self.gradients(torch.zeros(1, dtype=torch.long)).bytes

    def largest_chunk(self, max_bytes: int) -> int:
        """The most examples whose factors, with the copies a pass makes of them, stay under the bound, at least one; 0: all."""
        if max_bytes == 0:
            return self.examples
        return max(1, min(self.examples, max_bytes // max(1, self.bytes_an_example())))

    def weighted_gradient(self, indices: Tensor, weights: Tensor) -> list[Tensor]:
        """sum_i w_i g_i by one plain backward pass, for models whose examples do not separate too."""
        with torch.enable_grad():
            losses = self.losses(indices)
            total = (losses * weights.to(losses)).sum()
            return gradients_of(total, self.parameters)


@contextlib.contextmanager
def unchanged(layers: Layers) -> Iterator[None]:
    """Buffers (running statistics) and torch's random state are as before afterwards; within, autograd works."""
    buffers = [(each, each.clone()) for each in layers.buffers()]
    devices = {each.device for _, each in layers.parameters if each.is_cuda}
    with torch.inference_mode(False), torch.random.fork_rng(devices=list(devices)):
        try:
            yield
        finally:
            with torch.no_grad():
                for each, former in buffers:
                    each.copy_(former)


def gradients_of(loss: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
    """Gradients of a loss by plain autograd, dense: zeros where it does not depend on a parameter, and those of embeddings too."""
    gradients = torch.autograd.grad(loss, list(parameters), allow_unused=True, materialize_grads=True)
    return [each.to_dense() for each in gradients]


def trainable(layers: Layers) -> tuple[list[str], list[Tensor]]:
    """Names and parameters that are measured: those that require gradients."""
    named = [(name, each) for name, each in layers.parameters if each.requires_grad]
    if not named:
        raise ValueError("the model has no parameter that requires gradients, must have one to measure")
    for name, each in named:
        if each.dtype not in (torch.float32, torch.float64):
            raise ValueError(f"parameter {name!r} is {each.dtype}, must be torch.float32 or torch.float64")
    return [name for name, _ in named], [each for _, each in named]


def data_of(data: Data) -> tuple[Any, Any, int]:
    """Inputs, targets and how many examples they hold."""
    if isinstance(data, Dataset):
        data = _read(data)
    if not isinstance(data, Sequence) or isinstance(data, str) or len(data) != 2:
        raise ValueError(f"data is a {type(data).__name__}, must be a pair (inputs, targets) of tensors or a torch Dataset of such pairs")
    inputs, targets = data
    return inputs, targets, _count_examples(inputs, targets)


def _read(dataset: Dataset[Any]) -> tuple[Any, Any]:
    """The examples of a dataset, stacked as a `DataLoader` stacks them."""
    name = type(dataset).__name__
    if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__len__"):
        raise ValueError(f"data is a {name} without a length, must be a dataset with len() and [i]")
    if isinstance(dataset, TensorDataset) and len(dataset.tensors) == 2:
        return dataset.tensors[0], dataset.tensors[1]
    examples = [dataset[i] for i in range(len(dataset))]
    if not examples or not all(isinstance(each, Sequence) and len(each) == 2 for each in examples):
        raise ValueError(f"data is a {name}, must hold at least one example, each a pair (input, target)")
    try:
        inputs, targets = default_collate(examples)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"data is a {name}, must hold inputs and targets that can be stacked: {str(error).splitlines()[0]}") from error
    return inputs, targets


def refuse_coupled(layers: Layers) -> None:
    """Refuses a model with a layer that mixes the examples of a batch."""
    _refuse(layers, _coupled)


def refuse_random(layers: Layers) -> None:
    """Refuses a model with a layer that is random, so that no second run sees the same."""
    _refuse(layers, is_random)


def _refuse(layers: Layers, reason_of: Callable[[nn.Module], str]) -> None:
    for name, layer in layers.named:
        if reason := reason_of(layer):
            raise ValueError(f"layer {name or 'model'!r} ({type(layer).__name__}) {reason}; {_ways_out(_is_other_in_eval(layer))}")


def separate_examples(source: ModelSource) -> None:
    """Readies a source for the gradients of single examples: refuses a model for which the loss of an example is no function of
    that example alone, and chooses the memory format of images."""
    refuse_coupled(source.layers)
    refuse_random(source.layers)
    check_alone_as_in_batch(source)
    source.format = _fast_format(source)


def _fast_format(source: ModelSource) -> torch.memory_format:
    """The memory format of images that 2-d convolutions in float32 on the CPU are faster in, if this model has any and takes it.

    Known without timing, for the same call must give the same bits.
    """
    convolves = any(isinstance(layer, nn.Conv2d | nn.ConvTranspose2d) for _, layer in source.layers.named)
    fits = all(each.dtype == torch.float32 and each.is_cpu for each in source.parameters)
    if not (source.has_images() and convolves and fits):
        return torch.contiguous_format
    former, source.format = source.format, torch.channels_last
    try:
        source.gradients(torch.arange(min(2, source.examples)))
    except RuntimeError:  # such as view() of what does not lie in memory like that
        return torch.contiguous_format
    finally:
        source.format = former
    return torch.channels_last


# ---- layers


def _ways_out(by_eval: bool = True) -> str:
    return (
        f"so single examples have no gradient of their own: {'call model.eval() first, or ' if by_eval else ''}measure with "
        'method="sampled" (sg-b, sg-2b, and gc or gc-descent with a clustering)'
    )


def _is_other_in_eval(layer: nn.Module) -> bool:
    """Whether eval mode makes a layer that is coupled or random one that is not."""
    without_statistics = isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.running_mean is None
    return layer.training and not without_statistics and not isinstance(layer, _EMBEDDINGS)


_EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)
_MAY_BE_COUPLED = (nn.modules.batchnorm._BatchNorm, *_EMBEDDINGS)


def _coupled(layer: nn.Module) -> str:
    if not isinstance(layer, _MAY_BE_COUPLED):
        return ""
    if isinstance(layer, _EMBEDDINGS):
        return "divides gradients by how often a token is in the batch" if layer.scale_grad_by_freq else ""
    if layer.training or layer.running_mean is None:
        return "mixes the examples of a batch by its statistics" + ("" if layer.training else ", for it keeps no running ones")
    return ""


def is_random(layer: nn.Module) -> str:
    if isinstance(layer, nn.modules.dropout._DropoutNd) and layer.training and layer.p > 0:
        return "drops at random"
    if isinstance(layer, nn.MultiheadAttention | nn.RNNBase) and layer.training and layer.dropout > 0:
        return "drops at random"
    if isinstance(layer, nn.RReLU) and layer.training:
        return "is random"
    return ""


def check_alone_as_in_batch(source: ModelSource, examples: int = 3, *, may_be_random: bool = False) -> None:
    """A few losses, each alone and all in one batch: catches what no list of layers can know."""
    indices = torch.arange(min(examples, source.examples))
    with torch.no_grad():
        together = source.losses(indices)
        alone = torch.cat([source.losses(indices[i : i + 1]) for i in range(len(indices))])
        again = source.losses(indices) if may_be_random else together
    tolerance = 10 * torch.finfo(alone.dtype).eps ** 0.5

    def same(a: Tensor, b: Tensor) -> bool:
        return torch.allclose(a.double(), b.double(), rtol=tolerance, atol=tolerance, equal_nan=True)

    if same(together, again) and not same(together, alone):
        raise ValueError(
            "the loss of an example changes with the others in its batch, or from call to call, "
            + _ways_out()
        )


# ---- nested inputs


def take(values: Any, indices: Tensor) -> Any:
    """The examples `indices` of a tensor, or of every tensor in a tuple, list or dict."""
    return _mapped(values, lambda tensor: _selected(tensor, indices.to(tensor.device)))


def rows(tensor: Tensor, begin: int, end: int) -> Tensor:
    """The examples from `begin` to `end`."""
    if tensor.layout == torch.strided:
        return tensor[begin:end]
    return _selected(tensor, torch.arange(begin, end, device=tensor.device))


def _selected(tensor: Tensor, indices: Tensor) -> Tensor:
    """torch has no `index_select` of compressed rows."""
    if tensor.layout == torch.strided:
        return tensor.index_select(0, indices)
    starts = tensor.crow_indices()
    counts = starts.diff()[indices]
    ends = counts.cumsum(0)
    entries = torch.arange(int(counts.sum()), device=tensor.device) + (starts[indices] - ends + counts).repeat_interleave(counts)
    parts = torch.cat([ends.new_zeros(1), ends]), tensor.col_indices()[entries], tensor.values()[entries]
    # Rows of a tensor that was checked; torch warns where nothing is said.
    with torch.sparse.check_sparse_tensor_invariants(False):  # type: ignore[no-untyped-call]
        return torch.sparse_csr_tensor(*parts, (len(indices), tensor.shape[1]))


def _mapped(values: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """Nested values with `function` of every tensor in its place."""
    if isinstance(values, Tensor):
        return function(values)
    if isinstance(values, Mapping):
        return {name: _mapped(each, function) for name, each in values.items()}
    return [_mapped(each, function) for each in values]


def _is_image(tensor: Tensor) -> bool:
    return tensor.dim() == 4 and tensor.is_floating_point()


def apply_model(model: nn.Module, inputs: Any) -> Any:
    if isinstance(inputs, Tensor):
        return model(inputs)
    return model(**inputs) if isinstance(inputs, Mapping) else model(*inputs)


def _tensors(values: Any, name: str) -> list[Tensor]:
    if isinstance(values, Tensor):
        return [values]
    if isinstance(values, Mapping):
        values = list(values.values())
    if isinstance(values, Sequence) and not isinstance(values, str):
        return [tensor for each in values for tensor in _tensors(each, name)]
    raise ValueError(f"{name} hold a {type(values).__name__}, must be tensors, or tuples, lists or dicts of them")


def _count_examples(inputs: Any, targets: Any) -> int:
    tensors = _tensors(inputs, "inputs") + _tensors(targets, "targets")
    sizes = {each.shape[0] if each.dim() else None for each in tensors}
    for each in tensors:
        if each.layout not in (torch.strided, torch.sparse_csr) or (each.layout == torch.sparse_csr and each.dim() != 2):
            raise ValueError(
                f"inputs or targets are {each.layout} of shape {list(each.shape)}, must be dense or sparse CSR [N, features]: "
                "call .to_sparse_csr() or .to_dense() first"
            )
    if len(sizes) != 1 or sizes & {0, None}:
        shapes = ", ".join(str(list(each.shape)) for each in tensors)
        raise ValueError(f"inputs and targets have shapes {shapes}, must agree in dimension 0, the examples, and not be empty")
    return int(tensors[0].shape[0])
