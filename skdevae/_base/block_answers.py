"""Answers about blocks: a question to a fitted model as one task for each block of a Dask table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from .._sklearn import with_arrays_out
from .._warnings import about
from ..table.dask_blocks import Block, RowFact, blocks_of_array, is_frame
from ..table.dask_tables import is_dask, require_dask

#: keyword that says how much each row counts in an average
WEIGHT = "sample_weight"


@dataclass(frozen=True)
class Question:
    """What is asked about every block.

    Attributes
    ----------
    method : str
        The public method of the estimator that answers.
    table : str
        What messages call the table.
    nothing : ndarray, sparse array or DataFrame of shape (0, ...)
        The answer about no rows.
    is_average : bool
        Whether the method averages over rows. The answer about a block is then an array (1, 2): the average, and how
        much the rows of the block count together.
    facts : dict
        What all rows share, by name.
    of_blocks : tuple of str
        Names of the facts that come as one object for each block.
    """

    method: str
    table: str
    nothing: Any
    is_average: bool = False
    facts: dict[str, Any] = field(default_factory=dict)
    of_blocks: tuple[str, ...] = ()

    def ask(self, estimator: Any, values: Any, block: Block, of_block: tuple[Any, ...]) -> Any:
        """The answer about some rows, with facts of theirs. Errors and warnings say which block they are about."""
        facts = {**self.facts, **block.facts, **dict(zip(self.of_blocks, of_block, strict=True))}
        with _named(block):
            method = getattr(estimator, self.method)
            if self.is_average:
                return _average(method, values, facts)
            if values.shape[0] == 0:
                return self._about_no_rows(values)
            answer = method(values, **facts)
        if isinstance(self.nothing, pd.DataFrame):
            return pd.DataFrame(answer, columns=self.nothing.columns, index=values.index)
        return answer

    def _about_no_rows(self, values: Any) -> Any:
        return self.nothing.set_axis(values.index) if isinstance(self.nothing, pd.DataFrame) else self.nothing


def _average(method: Callable, values: Any, facts: dict[str, Any]) -> np.ndarray:
    weights = facts.get(WEIGHT)
    if values.shape[0] == 0 or (weights is not None and not np.any(np.asarray(weights))):
        return np.zeros((1, 2))  # no row counts, and there is no average
    average = method(values, **facts)
    return np.array([[average, values.shape[0] if weights is None else np.sum(np.asarray(weights, dtype=np.float64))]])


@contextmanager
def _named(block: Block) -> Iterator[None]:
    with about(str(block)):
        try:
            yield
        except Exception as error:
            if len(error.args) == 1 and isinstance(error.args[0], str):
                error.args = (f"{block}: {error.args[0]}",)
            else:
                error.add_note(f"It was about {block}.")
            raise


def ask_blocks(question: Question, estimator: Any, X: Any, facts: dict[str, RowFact]) -> Any:
    """The answers about all blocks of a Dask table with facts of its rows, as an array or a data frame of Dask.

    The estimator is asked as it is now, and is in the graph once.
    """
    asked = with_arrays_out(estimator._twin(with_fitted_state=True))
    for name in asked._of_training_rows:  # they would travel to every worker
        vars(asked).pop(name, None)
    asked.callbacks = None  # a fit's; they may hold what cannot travel
    key = f"{type(asked).__name__}-{require_dask('dask.base').tokenize(asked)}"
    asked = require_dask().delayed(asked, name=key, traverse=False)
    of_blocks = {name: fact.in_blocks for name, fact in facts.items() if is_dask(fact.in_blocks)}
    in_memory = {name: fact.in_blocks for name, fact in facts.items() if isinstance(fact.in_blocks, list)}
    shared = {name: fact.shared for name, fact in facts.items() if fact.in_blocks is None}
    question = replace(question, facts=shared, of_blocks=tuple(of_blocks))
    if not is_frame(X):
        return _ask_chunks(question, asked, X, in_memory, list(of_blocks.values()))
    return X.map_partitions(
        _ask_partition,
        asked,
        *of_blocks.values(),
        question=question,
        meta=question.nothing,
        enforce_metadata=False,
        align_dataframes=False,
        token=question.method,
    )


def _ask_partition(values: Any, estimator: Any, *of_block: Any, question: Question, partition_info: Any = None) -> Any:
    number = None if partition_info is None else partition_info["number"]
    return question.ask(estimator, values, Block(number, table=question.table, is_partition=True), of_block)


def _ask_chunks(question: Question, asked: Any, X: Any, in_memory: dict[str, list[Any]], of_blocks: list[Any]) -> Any:
    """The answers about the blocks of an array (N, D), with facts of theirs that are in memory or of Dask."""
    of_blocks = [fact.optimize() if is_frame(fact) else fact for fact in of_blocks]
    token = require_dask("dask.base").tokenize(question, asked.key, X, in_memory, of_blocks)
    name, others = f"{question.method}-{token}", (0,) * (question.nothing.ndim - 1)
    keys = zip(*(_keys_of_rows(collection) for collection in (X, *of_blocks)), strict=True)
    layer = {
        (name, block.number, *others): (_ask_chunk, question, block, asked.key, *of_block)
        for block, of_block in zip(blocks_of_array(X, question.table, in_memory), keys, strict=True)
    }
    graph = require_dask("dask.highlevelgraph").HighLevelGraph.from_collections(name, layer, [X, asked, *of_blocks])
    rows = (1,) * len(layer) if question.is_average else X.chunks[0]
    chunks = (rows, *((size,) for size in question.nothing.shape[1:]))
    return require_dask("dask.array").Array(graph, name, chunks, meta=question.nothing)


def _ask_chunk(question: Question, block: Block, estimator: Any, values: Any, *of_block: Any) -> Any:
    return question.ask(estimator, values, block, of_block)


def _keys_of_rows(collection: Any) -> list[Any]:
    """Keys of the blocks of rows of a table, a data frame, a series or a one-dimensional array."""
    return [key[0] if isinstance(key, list) else key for key in collection.__dask_keys__()]
