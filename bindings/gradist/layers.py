"""The layers and parameters of a model, walked once: `named_modules` and `named_parameters` give the same, but asked again and
again they take longer than a small model takes to run."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["Layers"]


class Layers:
    """Every layer and every parameter of a model once, by the name of its first place; a layer before what it holds."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.named: list[tuple[str, nn.Module]] = [("", model)]
        self.parameters: list[tuple[str, Tensor]] = []
        self.sparse: set[int] = set()
        """The identities of the parameters whose `.grad` is sparse: the weights of embeddings with `sparse=True`."""
        self._add_children(model, "", {id(model)})
        self._add_parameters()

    def _add_children(self, layer: nn.Module, prefix: str, seen: set[int]) -> None:
        for name, child in layer._modules.items():
            if child is not None and id(child) not in seen:
                seen.add(id(child))
                self.named.append((prefix + name, child))
                if child._modules:
                    self._add_children(child, f"{prefix}{name}.", seen)

    def _add_parameters(self) -> None:
        seen: set[int] = set()
        for place, layer in self.named:
            if isinstance(layer, nn.Embedding) and layer.sparse:
                self.sparse.add(id(layer.weight))
            for name, parameter in layer._parameters.items():
                if parameter is not None and id(parameter) not in seen:
                    seen.add(id(parameter))
                    self.parameters.append((f"{place}.{name}" if place else name, parameter))

    def buffers(self) -> list[Tensor]:
        return [each for _, layer in self.named for each in layer._buffers.values() if each is not None]
