"""Search scores: what a search over parameters has found, by the one or two parameters that it varied."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

Simplest: TypeAlias = Literal["first", "last"]

#: parameters that stand on the horizontal axis where a search varied two
_COUNTS = ("n_clusters", "n_components")
#: what a candidate has that its search gave no value of a parameter
NOT_SET = "not set"


@dataclass(frozen=True)
class Candidates:
    """What a search compared: a value of one parameter or two for each candidate, and its scores.

    Attributes
    ----------
    parameter, line_parameter : str
        Full names of the parameters; an empty string where there is no second one.
    values, lines : list of length n_candidates
        Their values.
    scores : dict of str to ndarray of shape (n_candidates, n_splits)
        Scores on held-out samples, by scorer.
    """

    parameter: str
    line_parameter: str
    values: list[Any]
    lines: list[Any]
    scores: dict[str, NDArray[np.float64]]


def read_search(
    search: Any, parameter: str | None, fixed: Mapping[str, Any] | None, scorer: str | Sequence[str] | None
) -> Candidates:
    """The candidates of a search that has the fixed values, by the parameters that it varied among them."""
    params, scores = _results(search)
    scores = _chosen_scorers(scores, scorer)
    names = list(dict.fromkeys(name for candidate in params for name in candidate))
    rows = np.arange(len(params))
    for short, value in (fixed or {}).items():
        name = _full_name(short, names)
        rows = rows[[_key(params[row].get(name, NOT_SET)) == _key(value) for row in rows]]
        if not len(rows):
            known = _distinct(candidate.get(name, NOT_SET) for candidate in params)
            raise ValueError(f"fixed asks for {short}={value!r}, but the search tried {_listed(known)}.")
    varied = [name for name in names if len(_distinct(params[row].get(name, NOT_SET) for row in rows)) > 1]
    asked = None if parameter is None else _full_name(parameter, names)
    across, along_lines = _axes_of(varied, asked, [params[row] for row in rows])
    values = [params[row].get(across, NOT_SET) for row in rows]
    lines = [params[row].get(along_lines, NOT_SET) if along_lines else None for row in rows]
    # A random search may try a candidate twice.
    once = pd.DataFrame({"value": map(_key, values), "line": map(_key, lines)}, dtype=object).duplicated().to_numpy()
    kept = np.nonzero(~once)[0]
    return Candidates(
        across,
        along_lines,
        [values[row] for row in kept],
        [lines[row] for row in kept],
        {
            name: _checked(table[rows[kept]], [params[row] for row in rows[kept]], name)
            for name, table in scores.items()
        },
    )


def scores_by_scorer(scores: Any, n_candidates: int) -> dict[str, NDArray[np.float64]]:
    """Scores (n_candidates, n_splits) by scorer, from an array or a mapping of arrays."""
    tables = scores if isinstance(scores, Mapping) else {"score": scores}
    read = {str(name): np.asarray(table, dtype=np.float64) for name, table in tables.items()}
    for name, table in read.items():
        if table.ndim != 2 or len(table) != n_candidates or table.shape[1] < 2:
            raise ValueError(
                f"The scores of {name!r} have shape {table.shape}, but there are {n_candidates} candidates: give an "
                f"array of shape ({n_candidates}, n_splits), with at least two splits, for standard errors."
            )
        if np.isnan(table).any():
            row = int(np.nonzero(np.isnan(table).any(1))[0][0])
            raise ValueError(f"The scores of {name!r} have NaN, first in row {row}: leave candidates without it out.")
    return read


def one_standard_error(
    scores: NDArray[np.float64], ranks: NDArray[np.integer], *, paired: bool = False
) -> tuple[int, int, float]:
    """The best candidate, and the simplest whose mean is within one standard error of the best's.

    Parameters
    ----------
    scores : ndarray of shape (n_candidates, n_splits)
        Greater is better.
    ranks : ndarray of int of shape (n_candidates,)
        Rank of each candidate by simplicity; 0 is the simplest. Of equally simple ones, the one with the best mean.
    paired : bool, default=False
        Whether the standard error is that of the differences to the best, split by split.

    Returns
    -------
    best, chosen : int
        Rows of `scores`.
    standard_error : float
        That of the best candidate's mean.
    """
    means = scores.mean(1)
    best = int(np.lexsort((ranks, -means))[0])
    errors = standard_errors(scores[best] - scores if paired else scores[[best]])
    near = np.nonzero(means >= means[best] - errors)[0]
    chosen = int(near[np.lexsort((-means[near], ranks[near]))[0]])
    return best, chosen, float(standard_errors(scores[[best]])[0])


def standard_errors(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Standard error of the mean of each row, (n_candidates,)."""
    errors: NDArray[np.float64] = scores.std(1, ddof=1) / np.sqrt(scores.shape[1])
    return errors


def in_order(values: Sequence[Any]) -> list[Any]:
    """Distinct values: numbers ascending, lists by their length, others in the order in which they appear."""
    distinct = _distinct(values)
    if are_numbers(distinct):
        return sorted(distinct)
    if all(isinstance(value, list | tuple) for value in distinct):
        return sorted(distinct, key=len)
    return distinct


def positions_in(values: Sequence[Any], ordered: Sequence[Any]) -> NDArray[np.integer]:
    """Where each value stands in a list of distinct ones."""
    places = {_key(value): place for place, value in enumerate(ordered)}
    return np.array([places[_key(value)] for value in values], dtype=int)


def are_numbers(values: Sequence[Any]) -> bool:
    """Whether all values are numbers."""
    return all(isinstance(value, Real) and not isinstance(value, bool | np.bool_) for value in values)


def short_name(parameter: str) -> str:
    """The name of a parameter without those of the steps that it is in."""
    return parameter.rsplit("__", 1)[-1]


def _results(search: Any) -> tuple[list[dict[str, Any]], dict[str, NDArray[np.float64]]]:
    """Parameters of all candidates, and their scores (n_candidates, n_splits) by scorer."""
    results = search
    if not isinstance(search, Mapping | pd.DataFrame):
        if not (hasattr(search, "cv_results_") or hasattr(search, "cv")):
            raise ValueError(
                f"{type(search).__name__} has no cv_results_: give a fitted search, such as GridSearchCV, or its "
                "cv_results_."
            )
        check_is_fitted(search, "cv_results_")
        results = search.cv_results_
    if "iter" in results:
        raise ValueError(
            "The search is a halving one: its candidates were scored on different numbers of samples, and cannot be "
            "compared in one figure. Use GridSearchCV or RandomizedSearchCV."
        )
    of_first = [re.fullmatch("split0_test_(.+)", str(key)) for key in results]
    scorers = [found[1] for found in of_first if found]
    if "params" not in results or not scorers:
        raise ValueError(
            "The results have no scores of single splits (split0_test_score, ...), of which standard errors are made. "
            "Give a fitted search, or all of its cv_results_."
        )
    scores = {}
    for scorer in scorers:
        columns: list[NDArray[np.float64]] = []
        while f"split{len(columns)}_test_{scorer}" in results:
            columns.append(np.asarray(results[f"split{len(columns)}_test_{scorer}"], dtype=np.float64))
        if len(columns) < 2:
            raise ValueError(
                "The search has a single split, so nothing is known of standard errors: give it more, by cv=."
            )
        scores[scorer] = np.column_stack(columns)
    return list(results["params"]), scores


def _chosen_scorers(
    scores: dict[str, NDArray[np.float64]], scorer: str | Sequence[str] | None
) -> dict[str, NDArray[np.float64]]:
    if scorer is None:
        return scores
    wanted = [scorer] if isinstance(scorer, str) else list(scorer)
    unknown = [name for name in wanted if name not in scores]
    if unknown or not wanted:
        raise ValueError(f"scorer asks for {_listed(unknown)}, but the search has {_listed(list(scores))}.")
    return {name: scores[name] for name in wanted}


def _axes_of(varied: list[str], asked: str | None, params: list[dict[str, Any]]) -> tuple[str, str]:
    """The parameter on the horizontal axis, and the one that lines are for ("" for none)."""
    if not varied:
        raise ValueError("The search varied no parameter, so there is nothing to choose between.")
    if asked is not None and asked not in varied:
        raise ValueError(f"The search did not vary {asked}, but {_listed(varied)}.")
    if len(varied) > 2:
        first = next(name for name in varied if name != asked)
        raise ValueError(
            f"The search varied {len(varied)} parameters ({', '.join(varied)}), but a figure shows two at most. Fix "
            f"the others, such as fixed={{{short_name(first)!r}: {params[0].get(first, NOT_SET)!r}}}."
        )
    if asked is None:
        counts = [name for name in varied if short_name(name) in _COUNTS]
        numeric = [name for name in varied if are_numbers(_distinct(p.get(name, NOT_SET) for p in params))]
        asked = [*counts, *numeric, *varied][0]
    others = [name for name in varied if name != asked]
    return asked, others[0] if others else ""


def _full_name(short: str, names: Sequence[str]) -> str:
    """The one parameter of a search that is meant by its name, with or without those of its steps."""
    found = [short] if short in names else [name for name in names if name.endswith(f"__{short}")]
    if len(found) != 1:
        what = "several" if found else "none"
        raise ValueError(f"{what} of the parameters of the search is {short!r}: they are {', '.join(names)}.")
    return found[0]


def _checked(scores: NDArray[np.float64], params: list[dict[str, Any]], scorer: str) -> NDArray[np.float64]:
    failed = np.isnan(scores)
    if failed.any():
        row = int(np.nonzero(failed.any(1))[0][0])
        splits = ", ".join(map(str, np.nonzero(failed[row])[0]))
        raise ValueError(
            f"{int(failed.any(1).sum())} of {len(scores)} candidates have no {scorer!r} on some splits (NaN), because "
            f"a fit failed there; the first is {params[row]} on split {splits}. Search with error_score='raise' to see "
            "why."
        )
    return scores


def _distinct(values: Any) -> list[Any]:
    return list({_key(value): value for value in values}.values())


def _key(value: Any) -> Hashable:
    """A value as a key: lists and arrays by what they hold; numbers of one value are one."""
    if isinstance(value, list | tuple | np.ndarray):
        return tuple(_key(entry) for entry in value)
    return value if isinstance(value, Hashable) else repr(value)


def _listed(values: Sequence[Any]) -> str:
    return ", ".join(map(repr, values)) or "nothing"
