"""LossDisplay: the training loss by epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from ..metrics._pipelines import last_step
from ._layout import SMALL_TEXT, TEXT, arrange_panels, import_matplotlib
from ._palette import curve_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: grey behind the epochs of a schedule
_SCHEDULE_COLOR = "#E9EBEE"
#: how far the vertical axis reaches beyond the losses after the schedule, as a share of their range
_MARGIN = 0.08
#: records of a history that say how far a schedule has come, their value at its end, and what it is called
_SCHEDULES = {"temperature": (1.0, "annealing"), "divergence_weight": (1.0, "warm-up")}


class LossDisplay:
    """The training loss by epoch, in nats per sample.

    Use :meth:`from_estimator` to make one of a fitted estimator, or :meth:`from_history` if you have its ``history_``.
    Where there were several starts, it is the one that was kept.

    A fit begins by a schedule: exact inference is annealed, and an encoder's divergences are warmed up. Until its end,
    behind which the figure is grey, the loss is that of an easier problem. The vertical axis shows the losses after
    that, down to their differences; earlier ones may lie beyond it. A loss that still falls at the last epoch asks for
    a larger ``max_epochs``. It may rise in a single epoch, where the behaviours of features were judged anew.

    Parameters
    ----------
    losses : DataFrame
        One row for each epoch: the column ``training``, and ``held-out`` where a part of the samples was held out for
        early stopping. Its index has the numbers of the epochs. A loss of held-out samples leaves the priors of the
        model's parameters out, so it lies lower.
    schedule : str, default=""
        What the schedule is called. An empty string means that there was none, or that nothing is known of it.
    n_scheduled : int, default=0
        How many epochs it had.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        Axes with the curves.
    figure_ : matplotlib.figure.Figure
        Figure that holds them.
    lines_ : dict of str to matplotlib.lines.Line2D
        The curves, by column of `losses`.
    schedule_ : matplotlib.patches.Patch or None
        The grey behind the epochs of the schedule.

    Examples
    --------
    >>> from skdevae import DeVAETransformer
    >>> from skdevae.datasets import make_progression
    >>> from skdevae.display import LossDisplay
    >>> X = make_progression(60, n_transient=2, n_increasing=2, n_decreasing=2, random_state=0).data
    >>> display = LossDisplay.from_estimator(DeVAETransformer(max_epochs=12, random_state=0).fit(X))
    >>> display.losses.shape
    (12, 1)
    >>> display.schedule
    'annealing'
    """

    def __init__(self, *, losses: pd.DataFrame, schedule: str = "", n_scheduled: int = 0) -> None:
        self.losses = losses
        self.schedule = schedule
        self.n_scheduled = n_scheduled

    @classmethod
    def from_estimator(
        cls, estimator: Any, *, ax: Axes | None = None, line_kw: dict[str, Any] | None = None
    ) -> LossDisplay:
        """Draw the training loss of a fitted estimator.

        Parameters
        ----------
        estimator : estimator, Pipeline or search
            Fitted. Of a Pipeline, it is the last step that is drawn.
        ax : matplotlib Axes, default=None
            Where to draw. None makes a figure, as wide as one column of a journal.
        line_kw : dict, default=None
            Passed to :meth:`matplotlib.axes.Axes.plot` for every curve.

        Returns
        -------
        display : LossDisplay
            Drawn.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If `estimator` has no ``history_``, or if `ax` is not one Axes.

        Examples
        --------
        >>> from skdevae import DeVAETransformer
        >>> from skdevae.datasets import make_progression
        >>> from skdevae.display import LossDisplay
        >>> X = make_progression(60, n_transient=2, n_increasing=2, n_decreasing=2, random_state=0).data
        >>> display = LossDisplay.from_estimator(DeVAETransformer(max_epochs=12, random_state=0).fit(X))
        >>> len(display.losses)  # one loss an epoch
        12
        """
        import_matplotlib("pyplot", "LossDisplay")
        check_is_fitted(estimator)
        model = last_step(estimator)
        if not hasattr(model, "history_"):
            raise ValueError(
                f"{type(model).__name__} has no history_ of its training: give an estimator of skdevae, or a Pipeline "
                "or search that ends in one."
            )
        return cls.from_history(model.history_, ax=ax, line_kw=line_kw)

    @classmethod
    def from_history(
        cls, history: Any, *, ax: Axes | None = None, line_kw: dict[str, Any] | None = None
    ) -> LossDisplay:
        """Draw the losses of a history.

        Parameters
        ----------
        history : skorch.history.History, DataFrame or list of dict
            One record for each epoch, with ``train_loss``, and ``valid_loss`` where samples were held out.
        ax : matplotlib Axes, default=None
            As for :meth:`from_estimator`.
        line_kw : dict, default=None
            As for :meth:`from_estimator`.

        Returns
        -------
        display : LossDisplay
            Drawn.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If the history has no ``train_loss``, or if `ax` is not one Axes.

        Examples
        --------
        >>> from skdevae import DeVAETransformer
        >>> from skdevae.datasets import make_progression
        >>> from skdevae.display import LossDisplay
        >>> X = make_progression(60, n_transient=2, n_increasing=2, n_decreasing=2, random_state=0).data
        >>> model = DeVAETransformer(max_epochs=12, random_state=0).fit(X)
        >>> len(LossDisplay.from_history(model.history_).losses)
        12
        """
        records = history if isinstance(history, pd.DataFrame) else pd.DataFrame.from_records(list(history))
        if "train_loss" not in records or not len(records):
            raise ValueError("The history has no epoch with a train_loss, so there is nothing to draw.")
        epochs = pd.RangeIndex(1, len(records) + 1, name="epoch")
        names = {"train_loss": "training", "valid_loss": "held-out"}
        kept = [name for name in names if name in records]
        losses = records[kept].rename(columns=names).set_axis(epochs).astype(float)
        schedule, n_scheduled = _schedule_of(records)
        return cls(losses=losses, schedule=schedule, n_scheduled=n_scheduled).plot(ax=ax, line_kw=line_kw)

    def plot(self, ax: Axes | None = None, *, line_kw: dict[str, Any] | None = None) -> LossDisplay:
        """Draw the curves.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            As for :meth:`from_estimator`.
        line_kw : dict, default=None
            As for :meth:`from_estimator`.

        Returns
        -------
        display : LossDisplay
            This display.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If `ax` is not one Axes.

        Examples
        --------
        >>> from skdevae import DeVAETransformer
        >>> from skdevae.datasets import make_progression
        >>> from skdevae.display import LossDisplay
        >>> X = make_progression(60, n_transient=2, n_increasing=2, n_decreasing=2, random_state=0).data
        >>> display = LossDisplay.from_estimator(DeVAETransformer(max_epochs=12, random_state=0).fit(X))
        >>> display.plot(line_kw={"color": "black"}).lines_["training"].get_color()
        'black'
        """
        import_matplotlib("pyplot", "LossDisplay")
        (axes,) = arrange_panels(ax, 1, 1, "LossDisplay")
        self.ax_: Axes = axes
        self.figure_: Any = axes.figure
        self.lines_: dict[str, Any] = {}
        epochs = self.losses.index.to_numpy()
        for rank, name in enumerate(self.losses):
            color, dashes = curve_style(rank)
            style = {"color": color, "linestyle": dashes, "linewidth": 1.2, "label": name}
            (self.lines_[name],) = axes.plot(epochs, self.losses[name], **{**style, **(line_kw or {})})
        self.schedule_: Any = None
        if self.n_scheduled:
            self.schedule_ = axes.axvspan(0.5, self.n_scheduled + 0.5, color=_SCHEDULE_COLOR, lw=0, label=self.schedule)
        axes.set_xlim(0.5, len(epochs) + 0.5)
        axes.set_ylim(self._value_limits())
        axes.set_xlabel("epoch", fontsize=TEXT)
        axes.set_ylabel("loss (nats per sample)", fontsize=TEXT)
        axes.tick_params(labelsize=SMALL_TEXT)
        axes.spines[["top", "right"]].set_visible(False)
        if self.n_scheduled or len(self.lines_) > 1:
            axes.legend(
                fontsize=SMALL_TEXT, frameon=False, loc="lower left", bbox_to_anchor=(0, 1.01), borderaxespad=0, ncols=3
            )  # fmt: skip
        return self

    def _value_limits(self) -> tuple[float, float]:
        """Range of all losses after the schedule; of all losses, if training ended before it did."""
        later = self.losses.to_numpy()[self.n_scheduled :]
        shown = later if len(later) > 1 else self.losses.to_numpy()
        low, high = np.nanmin(shown), np.nanmax(shown)
        margin = _MARGIN * (high - low) or 1.0
        return float(low - margin), float(high + margin)


def _schedule_of(records: pd.DataFrame) -> tuple[str, int]:
    """What the schedule of a training is called, and how many epochs it had."""
    for name, (final, called) in _SCHEDULES.items():
        if name in records:
            n_scheduled = int((records[name] != final).sum())
            return (called, n_scheduled) if n_scheduled else ("", 0)
    return "", 0
