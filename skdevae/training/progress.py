"""Progress: what a fit says that it does, while it does it.

A fit announces its phases (:func:`announce`), numbers the starts that it consists of (:func:`numbered`), and reports
its epochs. Two may listen: a user who has set ``verbose`` sees bars of tqdm, and scikit-learn's callbacks show bars of
all fits of a search. Where nobody listens, nothing is done.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any, Self, TypeVar

from skorch.callbacks import Callback
from tqdm.auto import tqdm

from .._sklearn import FitTask

_Item = TypeVar("_Item")


class Progress:
    """The progress of one fit, as a context in which functions of this module speak of it.

    Parameters
    ----------
    estimator : object
        What is fitted, as it is named to a user.
    verbose : bool
        Whether bars are shown, unless the context is within :func:`quietly`.
    task : FitTask or None
        The fit as scikit-learn's callbacks see it; None where there are none.
    """

    def __init__(self, estimator: object, verbose: bool, task: FitTask | None = None):
        self._name, self._task = type(estimator).__name__, task
        self._shows = verbose and not _is_quiet.get()
        self._label = ""
        self._phase: FitTask | None = None
        self._bar: Any = None

    def __enter__(self) -> Self:
        self._outer = _current.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        _current.reset(self._outer)
        if self._bar is not None:
            self._bar.close()

    @property
    def is_watched(self) -> bool:
        """Whether anybody listens."""
        return self._shows or self._task is not None

    def show_in_one_process(self, rank: int) -> None:
        """Leave bars to the first of several processes."""
        self._shows = self._shows and rank == 0

    def announce(self, phase: str) -> None:
        """Say what begins, as a line and as a task, and with it that the phase before has ended."""
        self._end_phase()
        self.say(self._labelled(phase))
        if self._task is not None:
            self._phase = self._task.part(self._labelled(phase)).begin()

    def say(self, text: str) -> None:
        """A line for who watches."""
        if self._shows:
            tqdm.write(f"{self._name}: {text}", file=sys.stderr)

    @contextmanager
    def labelled(self, label: str) -> Iterator[None]:
        """A context that is a part of the fit, which lines, bars and tasks name; a part of a part has both labels."""
        outer, self._label = self._label, self._labelled(label)
        try:
            yield
        finally:
            self._label = outer

    def begin_training(self, max_epochs: int) -> FitTask | None:
        """Show a bar over epochs; the task of which they are parts."""
        self._end_phase()
        if self._shows:
            self._bar = tqdm(total=max_epochs, unit="epoch", desc=f"{self._name}: {self._labelled('training')}")
        return None if self._task is None else self._task.part(self._labelled("training"), max_epochs).begin()

    def count_epoch(self, loss: float) -> None:
        """Let the bar grow."""
        if self._bar is not None:
            self._bar.set_postfix(loss=f"{loss:.4g}", refresh=False)
            self._bar.update()

    def end_training(self, how: str) -> None:
        """Leave the bar as it is, and with how training has ended, if there is anything to say of it."""
        if self._bar is not None:
            if how:
                self._bar.set_description_str(f"{self._name}: {self._labelled(how)}")
            self._bar.close()
            self._bar = None

    def end(self) -> None:
        """Say that the fit has succeeded."""
        self._end_phase()
        if self._task is not None:
            self._task.end()

    def _end_phase(self) -> None:
        if self._phase is not None:
            self._phase.end()
            self._phase = None

    def _labelled(self, text: str) -> str:
        return ", ".join(filter(None, (self._label, text)))


class EpochReports(Callback):
    """Reports every epoch of a training run. A callback of scikit-learn's may end it, as it may any task."""

    def __init__(self, progress: Progress, max_epochs: int, stopping: Callback):
        self.progress = progress
        self.max_epochs = max_epochs
        self.stopping = stopping

    def on_train_begin(self, net, **kwargs):
        self.task_ = self.progress.begin_training(self.max_epochs)

    def on_epoch_begin(self, net, **kwargs):
        self.epoch_ = None if self.task_ is None else self.task_.part("epoch").begin()

    def on_epoch_end(self, net, **kwargs):
        self.progress.count_epoch(net.history[-1, "train_loss"])
        if self.epoch_ is not None and self.epoch_.end():
            raise KeyboardInterrupt  # how skorch's callbacks end a fit

    def on_train_end(self, net, **kwargs):
        self.progress.end_training(self.stopping.ended_ if self.stopping.has_stopped_ else "")
        if self.task_ is not None:
            self.task_.end()


_current: ContextVar[Progress] = ContextVar("progress")
_is_quiet: ContextVar[bool] = ContextVar("is_quiet", default=False)


def progress_of_this_fit() -> Progress:
    """That of the fit that runs in this thread; outside of a fit, one that nobody watches."""
    return _current.get(None) or Progress(None, verbose=False)


def announce(phase: str) -> None:
    """Say what the fit that runs in this thread begins to do."""
    progress_of_this_fit().announce(phase)


def labelled(label: str) -> AbstractContextManager[None]:
    """A context that is a part of the fit that runs in this thread, which lines, bars and tasks name."""
    return progress_of_this_fit().labelled(label)


def numbered(items: Sequence[_Item], kind: str) -> Iterator[_Item]:
    """Items, of each of which something is fitted: meanwhile, the fit of this thread says their number."""
    for number, item in enumerate(items, 1):
        with labelled(f"{kind} {number} of {len(items)}" if len(items) > 1 else ""):
            yield item


def counted(items: Iterable[_Item], kind: str, total: int, verbose: bool) -> Iterator[_Item]:
    """Items that are fitted in full elsewhere, as they come, with a bar that says how many there are."""
    if not verbose:
        yield from items
        return
    with tqdm(total=total, unit=kind, desc=f"{kind} 1 of {total}") as bar:
        for number, item in enumerate(items, 1):
            bar.set_description_str(f"{kind} {min(number + 1, total)} of {total}", refresh=False)
            bar.update()
            yield item


@contextmanager
def quietly() -> Iterator[None]:
    """A context whose fits show no bars of their own, for they are parts of something that has one."""
    outer = _is_quiet.set(True)
    try:
        yield
    finally:
        _is_quiet.reset(outer)
