"""KSelectionDisplay: held-out scores by the number of clusters, or by any other parameter that a search varied."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from ._fitted_text import shortened
from ._layout import SMALL_TEXT, TEXT, arrange_panels, import_matplotlib
from ._palette import CATEGORY_MARKERS, CURVE_COLORS, LINE_STYLES
from ._search_scores import (
    Simplest,
    are_numbers,
    in_order,
    one_standard_error,
    positions_in,
    read_search,
    scores_by_scorer,
    short_name,
    standard_errors,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: height of a panel, in inches
_HEIGHT = 2.8
#: share of the distance between neighbouring values over which the lines are spread, so that bars stand side by side
_SPREAD = 0.3
#: grey of the level that the one-standard-error rule asks for
_RULE_COLOR = "#6E757C"


class KSelectionDisplay:
    """Held-out scores by the number of clusters K, with the one-standard-error rule.

    Use :meth:`from_cv_results` to make one of a search, or :meth:`from_scores` if you have the scores already. Each
    point is the mean over the splits of a cross-validation, and its bar is one standard error either way. Of all
    candidates, one has the best mean. The one-standard-error rule (Breiman et al. 1984) chooses the simplest candidate
    whose mean is less than one standard error below: what is beyond it, the scores cannot tell from chance.

    Parameters
    ----------
    scores : DataFrame
        One row for each candidate and scorer, with the columns ``scorer``, ``value``, ``line``, ``mean``,
        ``standard_error``, ``is_best`` and ``is_chosen``. Candidates are in the order in which they are drawn.
    value_name : str
        What the horizontal axis shows.
    line_name : str, default=""
        What the lines differ by. An empty string means that there is one line only.

    Attributes
    ----------
    axes_ : ndarray of matplotlib.axes.Axes of shape (n_scorers,)
        The panels, one for each scorer.
    ax_ : ndarray of matplotlib.axes.Axes
        The same as `axes_`, under the name that displays of scikit-learn use.
    figure_ : matplotlib.figure.Figure
        Figure that holds them.
    lines_ : dict of tuple to matplotlib.lines.Line2D
        Each line, by scorer and value of the second parameter.
    chosen_ : dict of str to matplotlib.lines.Line2D
        The mark of the candidate that the rule chooses, by scorer.
    best_ : dict of str to matplotlib.lines.Line2D
        The mark of the best candidate, by scorer.
    legend_ : matplotlib.legend.Legend
        Legend above the first panel.

    Notes
    -----
    A standard error here is the standard deviation over the splits, divided by the root of their number. Splits share
    training samples, so it is too small rather than too large. Splits that are easy or hard for all candidates make it
    larger than the differences between candidates deserve: `paired` leaves that out.

    References
    ----------
    Breiman, L., Friedman, J., Olshen, R. and Stone, C. (1984). "Classification and Regression Trees". Wadsworth.
    Hastie, T., Tibshirani, R. and Friedman, J. (2009). "The Elements of Statistical Learning", section 7.10. Springer.

    Examples
    --------
    Any search can be drawn, such as one over the models of this package or over those that they are compared with:

    >>> from sklearn.decomposition import FactorAnalysis
    >>> from sklearn.model_selection import GridSearchCV
    >>> from skdevae.datasets import make_progression
    >>> from skdevae.display import KSelectionDisplay
    >>> X = make_progression(60, n_transient=4, n_increasing=4, n_decreasing=4, random_state=0).data
    >>> search = GridSearchCV(FactorAnalysis(), {"n_components": [1, 2, 3]}, cv=3).fit(X)
    >>> display = KSelectionDisplay.from_cv_results(search)
    >>> display.scores[["value", "is_best", "is_chosen"]]
       value  is_best  is_chosen
    0      1    False      False
    1      2    False      False
    2      3     True       True
    """

    def __init__(self, *, scores: pd.DataFrame, value_name: str, line_name: str = "") -> None:
        self.scores = scores
        self.value_name = value_name
        self.line_name = line_name

    @classmethod
    def from_cv_results(
        cls,
        search: Any,
        *,
        parameter: str | None = None,
        fixed: Mapping[str, Any] | None = None,
        scorer: str | Sequence[str] | None = None,
        paired: bool = False,
        simplest: Simplest = "first",
        n_cols: int = 2,
        ax: Any = None,
        line_kw: dict[str, Any] | None = None,
    ) -> KSelectionDisplay:
        """Draw the scores of a search by the one or two parameters that it varied.

        Parameters
        ----------
        search : search, dict or DataFrame
            A fitted :class:`~sklearn.model_selection.GridSearchCV` or
            :class:`~sklearn.model_selection.RandomizedSearchCV` with at least two splits, or its ``cv_results_``. In a
            Pipeline, parameters are found in whatever step they are.
        parameter : str, default=None
            The parameter on the horizontal axis, with or without the names of the steps that it is in. None means
            ``n_clusters`` or ``n_components``, if the search varied one of these, or else the first one of numbers.
            There is one line for each value of the other parameter, if there is another.
        fixed : dict of str to value, default=None
            Values of further parameters: only candidates that have these are drawn.
        scorer : str or sequence of str, default=None
            Which scorers of a search that has several; there is one panel for each. None means all.
        paired : bool, default=False
            Whether the rule takes the standard error of the differences to the best candidate, split by split. Splits
            that are easy or hard for all candidates then count for nothing. The bars stay those of the means.
        simplest : {"first", "last"}, default="first"
            On which end of the horizontal axis the simplest candidates are. Numbers are in ascending order, lists in
            that of their length, and other values in the order in which the search tried them.
        n_cols : int, default=2
            Most panels side by side, if `ax` is None.
        ax : matplotlib Axes or array of Axes, default=None
            One Axes for each panel, or a single one whose place the panels take. None makes a figure as wide as one
            column of a journal, or as two.
        line_kw : dict, default=None
            Passed to :meth:`matplotlib.axes.Axes.errorbar` for every line.

        Returns
        -------
        display : KSelectionDisplay
            Drawn.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If the search has fewer than two splits, or candidates whose fits failed, or if it varied more than two
            parameters that are not fixed.

        Examples
        --------
        >>> from sklearn.model_selection import GridSearchCV
        >>> from skdevae import VAETransformer
        >>> from skdevae.datasets import make_progression
        >>> from skdevae.display import KSelectionDisplay
        >>> X = make_progression(60, n_transient=0, n_increasing=3, n_decreasing=3, random_state=0).data
        >>> search = GridSearchCV(VAETransformer(max_epochs=5, random_state=0), {"n_components": [1, 2]}, cv=2).fit(X)
        >>> KSelectionDisplay.from_cv_results(search).scores["value"].tolist()
        [1, 2]
        """
        import_matplotlib("pyplot", "KSelectionDisplay")
        found = read_search(search, parameter, fixed, scorer)
        return cls.from_scores(
            found.values,
            found.scores,
            lines=found.lines if found.line_parameter else None,
            value_name=short_name(found.parameter),
            line_name=short_name(found.line_parameter),
            paired=paired,
            simplest=simplest,
            n_cols=n_cols,
            ax=ax,
            line_kw=line_kw,
        )

    @classmethod
    def from_scores(
        cls,
        values: Sequence[Any],
        scores: ArrayLike | Mapping[str, ArrayLike],
        *,
        lines: Sequence[Any] | None = None,
        value_name: str = "n_clusters",
        line_name: str = "",
        paired: bool = False,
        simplest: Simplest = "first",
        n_cols: int = 2,
        ax: Any = None,
        line_kw: dict[str, Any] | None = None,
    ) -> KSelectionDisplay:
        """Draw scores that were computed before.

        Parameters
        ----------
        values : sequence of length n_candidates
            Value of the parameter on the horizontal axis for each candidate.
        scores : array-like of shape (n_candidates, n_splits), or dict of str to such
            Scores on held-out samples; greater is better. In a dict, there is one panel for each scorer.
        lines : sequence of length n_candidates, default=None
            Value of a second parameter. There is one line for each of them.
        value_name : str, default="n_clusters"
            What the horizontal axis shows.
        line_name : str, default=""
            What the lines differ by.
        paired : bool, default=False
            As for :meth:`from_cv_results`.
        simplest : {"first", "last"}, default="first"
            As for :meth:`from_cv_results`.
        n_cols : int, default=2
            As for :meth:`from_cv_results`.
        ax : matplotlib Axes or array of Axes, default=None
            As for :meth:`from_cv_results`.
        line_kw : dict, default=None
            As for :meth:`from_cv_results`.

        Returns
        -------
        display : KSelectionDisplay
            Drawn.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If the lengths do not agree, if there are fewer than two splits, or if a score is NaN.

        Examples
        --------
        >>> from skdevae.display import KSelectionDisplay
        >>> scores = [[-12.0, -11.8, -12.1], [-9.1, -9.0, -9.3], [-9.0, -9.1, -9.2]]  # nats per sample, by K and split
        >>> display = KSelectionDisplay.from_scores([2, 3, 4], scores)
        >>> display.scores[["value", "is_best", "is_chosen"]]
           value  is_best  is_chosen
        0      2    False      False
        1      3    False       True
        2      4     True      False
        """
        if simplest not in ("first", "last"):
            raise ValueError(f'simplest must be "first" or "last"; got {simplest!r}.')
        candidates = list(values)
        second = [""] * len(candidates) if lines is None else list(lines)
        if not candidates or len(second) != len(candidates):
            raise ValueError(
                f"There are {len(candidates)} values and {len(second)} lines: give one for each candidate."
            )
        tables = scores_by_scorer(scores, len(candidates))
        ranks, of_lines = positions_in(candidates, in_order(candidates)), positions_in(second, in_order(second))
        if of_lines.max() >= len(CURVE_COLORS):
            raise ValueError(
                f"{line_name or 'lines'} has {of_lines.max() + 1} different values, but a figure can show at most "
                f"{len(CURVE_COLORS)} lines. Fix it by fixed=, or name the parameter of the horizontal axis."
            )
        drawn = np.lexsort((ranks, of_lines))
        parts = []
        for scorer, table in tables.items():
            best, chosen, _ = one_standard_error(table, ranks if simplest == "first" else -ranks, paired=paired)
            part = pd.DataFrame({"scorer": scorer, "mean": table.mean(1), "standard_error": standard_errors(table)})
            part.insert(1, "value", pd.Series(candidates, dtype=None if are_numbers(candidates) else object))
            part.insert(2, "line", pd.Series(second, dtype=None if are_numbers(second) else object))
            number = np.arange(len(part))
            parts.append(part.assign(is_best=number == best, is_chosen=number == chosen).iloc[drawn])
        display = cls(scores=pd.concat(parts, ignore_index=True), value_name=value_name, line_name=line_name)
        return display.plot(ax=ax, n_cols=n_cols, line_kw=line_kw)

    def plot(self, ax: Any = None, *, n_cols: int = 2, line_kw: dict[str, Any] | None = None) -> KSelectionDisplay:
        """Draw the panels.

        Parameters
        ----------
        ax : matplotlib Axes or array of Axes, default=None
            As for :meth:`from_cv_results`.
        n_cols : int, default=2
            As for :meth:`from_cv_results`.
        line_kw : dict, default=None
            As for :meth:`from_cv_results`.

        Returns
        -------
        display : KSelectionDisplay
            This display.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If `ax` does not have one Axes for each scorer.

        Examples
        --------
        >>> from skdevae.display import KSelectionDisplay
        >>> scores = {"log-likelihood": [[-12.0, -11.8], [-9.1, -9.0]], "Rand index": [[0.4, 0.5], [0.9, 0.8]]}
        >>> display = KSelectionDisplay.from_scores([2, 3], scores)
        >>> display.plot(n_cols=1).axes_.shape  # one panel for each scorer, below each other
        (2,)
        """
        import_matplotlib("pyplot", "KSelectionDisplay")
        scorers = list(self.scores["scorer"].unique())
        self.axes_ = self.ax_ = arrange_panels(ax, len(scorers), n_cols, "KSelectionDisplay", _HEIGHT)
        self.figure_: Any = self.axes_[0].figure
        self.lines_: dict[tuple[str, Any], Any] = {}
        self._bars: dict[tuple[str, Any], Any] = {}
        self.best_: dict[str, Any] = {}
        self.chosen_: dict[str, Any] = {}
        for axes, scorer in zip(self.axes_, scorers, strict=True):
            part = self.scores[self.scores["scorer"] == scorer].reset_index(drop=True)
            at = self._draw_lines(axes, scorer, part, line_kw or {})
            self._mark(axes, scorer, part, at)
            axes.set_xlabel(self.value_name, fontsize=TEXT)
            axes.set_ylabel(f"{scorer}, held out", fontsize=TEXT)
            axes.tick_params(labelsize=SMALL_TEXT)
            axes.spines[["top", "right"]].set_visible(False)
        self.legend_: Any = self._explain(self.axes_[0], scorers[0])
        return self

    def _draw_lines(self, axes: Axes, scorer: str, part: pd.DataFrame, keywords: dict[str, Any]) -> NDArray[np.float64]:
        """Draw one line for each value of the second parameter; return where each candidate is on the axis."""
        distinct = in_order(list(part["line"]))
        of_lines = positions_in(list(part["line"]), distinct)
        at = _places(axes, list(part["value"]), (of_lines - (len(distinct) - 1) / 2) / max(len(distinct) - 1, 1))
        for number, value in enumerate(distinct):
            rows = of_lines == number
            style = {
                "color": CURVE_COLORS[number],
                "linestyle": LINE_STYLES[number],
                "marker": CATEGORY_MARKERS[number % len(CATEGORY_MARKERS)],
                "markersize": 4,
                "linewidth": 1.2,
                "elinewidth": 0.9,
                "capsize": 2,
                "zorder": 2,
                "label": f"{self.line_name} {_named(value)}" if self.line_name else "mean ± 1 SE",
            }
            bars = axes.errorbar(
                at[rows], part["mean"][rows], yerr=part["standard_error"][rows], **{**style, **keywords}
            )
            self._bars[scorer, value] = bars
            self.lines_[scorer, value] = bars.lines[0]
        return at

    def _mark(self, axes: Axes, scorer: str, part: pd.DataFrame, at: NDArray[np.float64]) -> None:
        best, chosen = (int(np.nonzero(part[name])[0][0]) for name in ("is_best", "is_chosen"))
        (self.best_[scorer],) = axes.plot(
            at[best], part["mean"][best], "o", markersize=9, markerfacecolor="none", markeredgecolor="black",
            markeredgewidth=0.9, zorder=3, label="best",
        )  # fmt: skip
        (self.chosen_[scorer],) = axes.plot(
            at[chosen], part["mean"][chosen], "D", markersize=11, markerfacecolor="none", markeredgecolor="black",
            markeredgewidth=0.9, zorder=3, label="simplest within 1 SE",
        )  # fmt: skip
        level = part["mean"][best] - part["standard_error"][best]
        axes.axhline(level, color=_RULE_COLOR, linewidth=0.8, linestyle=(0, (2, 2)), zorder=1)

    def _explain(self, axes: Axes, scorer: str) -> Any:
        """A legend above the panel: the lines in one column, the marks in another."""
        lines = import_matplotlib("lines", "KSelectionDisplay")

        def mark(drawn: Any) -> Any:
            return lines.Line2D(
                [], [], linestyle="", marker=drawn.get_marker(), markersize=6, markerfacecolor="none",
                markeredgecolor="black", markeredgewidth=0.9, label=drawn.get_label(),
            )  # fmt: skip

        handles = [self._bars[name, value] for name, value in self._bars if name == scorer]
        handles += [mark(self.best_[scorer]), mark(self.chosen_[scorer])]
        return axes.legend(
            handles=handles, loc="lower left", bbox_to_anchor=(0, 1.01), borderaxespad=0, frameon=False,
            fontsize=SMALL_TEXT, ncols=2, handlelength=2.4, columnspacing=1.2, labelspacing=0.3,
        )  # fmt: skip


def _places(axes: Axes, values: list[Any], shifts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where candidates go on the horizontal axis, (n_candidates,), whose ticks this sets.

    Numbers go where they are, on a scale on which their distances differ least: a linear or a logarithmic one. Other
    values are evenly spaced. ``shifts`` (between -0.5 and 0.5) keep bars of several lines apart.
    """
    distinct = in_order(values)
    where = np.asarray(distinct, dtype=np.float64) if are_numbers(distinct) else np.arange(float(len(distinct)))
    is_log = are_numbers(distinct) and _is_rather_logarithmic(where)
    scaled = np.log(where) if is_log else where
    step = np.diff(scaled).min() if len(scaled) > 1 else 1.0
    at = scaled[positions_in(values, distinct)] + _SPREAD * step * shifts
    if is_log:
        axes.set_xscale("log")
    room = 0.9 * 72 / axes.figure.dpi * axes.get_window_extent().width / len(distinct)
    axes.set_xticks(where, [_tick(value, room) for value in distinct], minor=False)
    axes.set_xticks([], minor=True)
    margin = 0.5 * step
    low, high = scaled[0] - margin, scaled[-1] + margin
    axes.set_xlim((np.exp(low), np.exp(high)) if is_log else (low, high))
    placed: NDArray[np.float64] = np.exp(at) if is_log else at
    return placed


def _is_rather_logarithmic(values: NDArray[np.float64]) -> bool:
    """Whether ascending numbers are more evenly spaced on a logarithmic scale."""
    if len(values) < 3 or values[0] <= 0:
        return False
    linear, logarithmic = np.diff(values), np.diff(np.log(values))
    return bool(logarithmic.max() / logarithmic.min() < linear.max() / linear.min())


def _tick(value: Any, room: float) -> str:
    """What a value is called below the axis: text no wider than some points."""
    lines = value if isinstance(value, list | tuple) else [value]
    return "\n".join(shortened(_named(line), room, SMALL_TEXT) for line in lines)


def _named(value: Any) -> str:
    return f"{value:g}" if are_numbers([value]) else str(value)
