"""Ctrl-C during a fit: what it ends, and what is kept.

Ctrl-C always ends in a KeyboardInterrupt, so whatever has called the fit ends too: a search, a loop, a script. If the
fit returned instead, all of them would go on with a model that is not finished.

Until an epoch has ended there is nothing to keep: the interrupt is raised at once, and the estimator stays as it was.
From then on the first one is noted: training ends after the batch, the estimator keeps what was learned, and
:class:`FitInterrupted` is raised. The next one is raised at once again. No state is thus ever half-written, and no
interrupt is lost in a callback or taken for its own.
"""

from __future__ import annotations

import signal
import threading
from contextvars import ContextVar
from types import FrameType
from typing import Any, Self


class FitInterrupted(KeyboardInterrupt):
    """A fit that Ctrl-C has ended, and that has kept what was learned until then.

    Attributes
    ----------
    estimator : object or None
        The fitted estimator: ``model = SomeEstimator().fit(X)`` would otherwise lose it. It stays in this process.
    """

    def __init__(self, message: str, estimator: Any = None):
        super().__init__(message)
        self.estimator = estimator

    def __reduce__(self) -> tuple[type[FitInterrupted], tuple[Any, ...]]:
        return type(self), self.args


class Interrupts:
    """The interrupts of one fit, as a context in which SIGINT is handled as this module says.

    Only Python's main thread receives signals. In other threads, and where the program ignores SIGINT or leaves it to
    the system, nothing is handled.

    Attributes
    ----------
    has_result : bool
        Whether an epoch of this fit has ended, so that there is something to keep.
    noted : bool
        Whether training is to end, or has ended, for an interrupt.
    abandoned : bool
        Whether the fit is to end with nothing.
    """

    def __init__(self) -> None:
        self.has_result = self.noted = self.abandoned = False
        self._previous: Any = None

    def __enter__(self) -> Self:
        self._outer = _current.set(self)
        if threading.current_thread() is threading.main_thread() and callable(signal.getsignal(signal.SIGINT)):
            self._previous = signal.getsignal(signal.SIGINT)
            signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        _current.reset(self._outer)
        self._restore()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        try:
            self._previous(number, frame)  # a program may do more, or less, than raise KeyboardInterrupt
        except KeyboardInterrupt:
            self.take_note()
            if self.abandoned:
                self._restore()
                raise

    def _restore(self) -> None:
        if self._previous is not None and signal.getsignal(signal.SIGINT) == self._handle:
            signal.signal(signal.SIGINT, self._previous)

    def take_note(self) -> None:
        """Note an interrupt: the first one after an epoch ends training, any other the whole fit."""
        if self.has_result and not self.noted:
            self.noted = True
        else:
            self.abandoned = True

    def raise_if_abandoned(self) -> None:
        """Raise once more where the fit should have ended, in case that somebody has caught the interrupt."""
        if self.abandoned:
            raise KeyboardInterrupt


_current: ContextVar[Interrupts] = ContextVar("interrupts")


def interrupts_of_this_fit() -> Interrupts:
    """Those of the fit that runs in this thread; outside of a fit, new ones that nothing handles."""
    return _current.get(None) or Interrupts()
