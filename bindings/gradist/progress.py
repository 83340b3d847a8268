"""A progress bar with an ETA for runs and sweeps, by tqdm."""

from __future__ import annotations

from typing import Any

__all__ = ["ProgressBar"]


class ProgressBar:
    """What the core tells about a run, as a tqdm bar: in notebooks a widget where there is one, else a line of text."""

    def __init__(self, unit: str = "it") -> None:
        self._unit = unit
        self._bar: Any = None

    def begin(self, total: int) -> None:
        from tqdm import auto

        self._bar = auto.tqdm(total=total, unit=self._unit, dynamic_ncols=True)

    def initialised(self, step: int, steps: int, quotient: float) -> None:
        self._bar.set_postfix_str(f"MetaInit {step}/{steps}, quotient={quotient:.3g}")

    def logged(self, iteration: int, train_loss: float) -> None:
        self._bar.set_postfix(loss=f"{train_loss:.3g}", refresh=False)
        self.progressed(iteration)

    def progressed(self, iteration: int) -> None:
        self._bar.update(iteration - self._bar.n)

    def end(self) -> None:
        if self._bar is not None:
            self._bar.close()
