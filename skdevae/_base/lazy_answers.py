"""Lazy answers: what a fitted model says of the rows of a Dask table, block by block and when it is computed.

A method that answers row by row needs nothing but its mark (:func:`answers_by_rows`, :func:`averages_rows`). Given a
table of Dask, its answer is a collection of Dask. Each block is one task, which asks the same public method. What can
be known without computing anything is checked at once, on one row that is like those of the table.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeVar, cast

import numpy as np
import pandas as pd
import scipy.sparse as sp

from .._sklearn import container_adapter, inside_available_if
from ..table.dask_blocks import RowFact, check_table, fact_of_rows, is_frame, one_row_of
from ..table.dask_tables import is_dask_table, require_dask
from ..table.weighted_rows import checked_weights
from .block_answers import WEIGHT, Question, ask_blocks
from .own_settings import UnderOwnSettings, own_settings

_Function = TypeVar("_Function", bound=Callable[..., Any])
#: attribute of a method: how it answers about tables of Dask
_MARK = "_about_dask_tables"
#: keywords that are facts of rows; those that methods take which have no average to make
_OF_ROWS = ("size_factors", "covariates")
_FACTS = (*_OF_ROWS, WEIGHT)


@dataclass(frozen=True)
class Request:
    """What a method was asked about a table of Dask, after all checks that compute nothing.

    Attributes
    ----------
    estimator : object
    method : str
    name : str
        Of the table among the method's arguments.
    table : collection of Dask
    facts : dict of RowFact
        By name.
    dtype : dtype
        In which the estimator reads the table.
    """

    estimator: Any
    method: str
    name: str
    table: Any
    facts: dict[str, RowFact]
    dtype: np.dtype

    @classmethod
    def of(cls, estimator: Any, method: Callable, arguments: Mapping[str, Any], checked: str) -> Self:
        """From the arguments of a method's call, the table first, and the name of the method that checks rows."""
        name, table = next((name, value) for name, value in arguments.items() if name != "self")
        check_table(table, name)
        given = {fact: arguments[fact] for fact in _FACTS if arguments.get(fact) is not None}
        facts = {fact: fact_of_rows(fact, value, table, name) for fact, value in given.items()}
        of_one_row = {fact: value.one_row for fact, value in facts.items() if fact != WEIGHT}
        with own_settings():
            dtype = getattr(_lenient(estimator), checked)(one_row_of(table), **of_one_row)
        return cls(estimator, method.__name__, name, table, facts, dtype)

    def mapped(self, nothing: Any, *, is_average: bool = False) -> Any:
        """The lazy answers about all blocks; see :class:`Question`."""
        question = Question(self.method, self.name, nothing, is_average)
        return ask_blocks(question, self.estimator, self.table, self.facts)


def _lenient(estimator: Any) -> Any:
    """The estimator as one that does not look at the values of covariates, and calls no function of the user's."""
    twin = estimator._twin(with_fitted_state=True)
    if hasattr(twin, "unknown_covariate"):
        twin.unknown_covariate = "average"
    if callable(getattr(twin, "size_factors", None)):
        twin.size_factors = _ones
    return twin


def _ones(X: Any) -> np.ndarray:
    return np.ones(X.shape[0])


@dataclass(frozen=True)
class ByRows:
    """How a method answers row by row.

    Attributes
    ----------
    n_columns : callable, optional
        Gives the number of columns of an estimator's answer; None for one number a row.
    names : callable, optional
        Gives their names. Answers with names are data frames where ``set_output`` asks for them.
    dtype : dtype, optional
        None for that of the table.
    may_be_sparse : bool
        Whether sparse tables have sparse answers.
    checked : str
        Method of the estimator that checks rows and their facts, and gives the dtype in which it reads them.
    """

    n_columns: Callable[[Any], int] | None = None
    names: Callable[[Any], Sequence[str]] | None = None
    dtype: Any = None
    may_be_sparse: bool = False
    checked: str = "_dtype_of"

    def answer(self, estimator: Any, method: Callable, arguments: Mapping[str, Any]) -> Any:
        """The lazy answer of a method to its arguments."""
        request = Request.of(estimator, method, arguments, self.checked)
        adapter = None if self.names is None else container_adapter(estimator)
        if adapter is not None and adapter.container_lib != "pandas":
            raise ValueError(
                f"set_output asks for tables of {adapter.container_lib}, which Dask has none of: choose "
                "set_output(transform='pandas') for a data frame of Dask, or 'default' for an array."
            )
        nothing = self._nothing(request)
        if adapter is None:
            return request.mapped(nothing)
        names = list(self.names(estimator))  # type: ignore[misc]  # there is an adapter only where there are names
        if is_frame(request.table):
            return request.mapped(pd.DataFrame(nothing, columns=names, index=request.table._meta.index))
        return require_dask("dask.dataframe").from_dask_array(request.mapped(nothing), columns=names)

    def _nothing(self, request: Request) -> Any:
        """The answer about no rows."""
        columns = () if self.n_columns is None else (self.n_columns(request.estimator),)
        nothing = np.empty((0, *columns), dtype=request.dtype if self.dtype is None else self.dtype)
        is_sparse = self.may_be_sparse and sp.issparse(request.table._meta)
        return sp.csr_array(nothing) if is_sparse else nothing


@dataclass(frozen=True)
class Averaged:
    """How a method answers with an average over rows: it is computed at once, a block at a time."""

    checked: str = "_dtype_of"

    def answer(self, estimator: Any, method: Callable, arguments: Mapping[str, Any]) -> float:
        """The average that a method gives for its arguments."""
        request = Request.of(estimator, method, arguments, self.checked)
        averages, weights = request.mapped(np.empty((0, 2)), is_average=True).compute().T
        if not weights.any():
            if WEIGHT in request.facts:
                checked_weights(np.zeros(1), np.zeros((1, 1)))
            raise ValueError("Found array with 0 sample(s): no block of X has a row, so there is nothing to average.")
        return float(np.average(averages, weights=weights))


@dataclass(frozen=True)
class AfterFit:
    """How a method answers that fits a table, and then asks another method about it."""

    asks: str

    def answer(self, estimator: Any, method: Callable, arguments: Mapping[str, Any]) -> Any:
        """What the other method answers after a fit."""
        given = {name: value for name, value in arguments.items() if name != "self"}
        given |= given.pop("facts", {})
        check_table(given["X"])
        fitted = estimator.fit(**given)
        return getattr(fitted, self.asks)(given["X"], **{name: given[name] for name in _OF_ROWS if name in given})


def answers_by_rows(**how: Any) -> Callable[[_Function], _Function]:
    """Mark of methods that answer row by row; see :class:`ByRows`."""
    return functools.partial(_marked, ByRows(**how))


def averages_rows(method: _Function) -> _Function:
    """Mark of methods that answer with an average over rows."""
    return _marked(Averaged(), method)


def fits_before(method: str) -> Callable[[_Function], _Function]:
    """Mark of methods that fit a table, and then answer as another method does."""
    return functools.partial(_marked, AfterFit(method))


def _marked(mark: Any, method: _Function) -> _Function:
    setattr(method, _MARK, mark)
    return method


class LazyAnswersMixin(UnderOwnSettings):
    """Base of classes, mixins too, whose marked methods answer about tables of Dask.

    An override keeps the mark of what it overrides. Methods are wrapped outside of all else: what is inside, as
    scikit-learn's ``set_output``, sees blocks in memory.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name, attribute in list(vars(cls).items()):
            marks = (getattr(vars(base).get(name), _MARK, None) for base in cls.__mro__)
            mark = None if name.startswith("_") else next((mark for mark in marks if mark is not None), None)
            if mark is not None:
                wrap = functools.partial(_answering, mark=mark)
                setattr(cls, name, wrap(attribute) if callable(attribute) else inside_available_if(attribute, wrap))

    def __dask_tokenize__(self) -> Any:
        """By what Dask knows that an estimator is the same: all that it holds, but for how long its epochs took."""
        state = {name: value for name, value in cast(Any, self).__getstate__().items() if name != "history_"}
        return require_dask("dask.base").normalize_token((type(self), state))


def _answering(method: Callable, mark: Any) -> Callable:
    """A method that answers about tables of Dask as its mark says."""
    signature = inspect.signature(method)
    table = list(signature.parameters)[1]

    @functools.wraps(method)
    def answer(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not is_dask_table(args[0] if args else kwargs.get(table)):
            return method(self, *args, **kwargs)
        return mark.answer(self, method, signature.bind(self, *args, **kwargs).arguments)

    return answer
