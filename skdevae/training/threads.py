"""Threads: when a fit gains from a second one, and when there must be none."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

import torch
from threadpoolctl import threadpool_limits

T = TypeVar("T")
S = TypeVar("S")

#: multiplications of a matrix product in a gradient step above which a second thread speeds steps up
_THREADED_PRODUCTS = 10_000_000


def products_gain(*sizes: int) -> bool:
    """Whether matrix products of so many multiplications gain from threads."""
    product = 1
    for size in sizes:
        product *= size
    return product > _THREADED_PRODUCTS


def fitting_threads(gains: bool) -> AbstractContextManager:
    """As many OpenMP threads as there are where a fit gains from them, else one.

    Small tables gain nothing from a second thread, and on a busy machine threads that wait for each other cost most of
    the time. Only OpenMP's threads are limited: that limit holds for the thread that sets it, while the limit of a BLAS
    library would hold for the whole process.
    """
    if gains:
        return nullcontext()
    return _one_thread()


def mapped_in_threads(function: Callable[[T], S], items: Iterable[T]) -> Iterator[S]:
    """``function`` of every item, in their order, by as many threads as there are.

    It is for products that use one thread each, such as scipy's sparse ones. Items are taken from where they come as
    threads get free, so that few of them are held. Gradients are off.
    """
    function = torch.no_grad()(function)  # in threads of their own, too
    n_threads = torch.get_num_threads()
    if n_threads == 1:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(n_threads, initializer=_one_thread) as pool:
        under_way: deque[Future[S]] = deque()
        for item in items:
            under_way.append(pool.submit(function, item))
            if len(under_way) > n_threads:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()


def _one_thread() -> AbstractContextManager:
    """Let the thread that calls it have no other OpenMP threads, for as long as it lives or the context lasts."""
    # The first call of torch in a thread sets the number of its OpenMP threads: after the limit, it would undo it.
    torch.get_num_threads()
    return threadpool_limits(1, user_api="openmp")


class _Forks:
    """Notes in a child that it was forked from a process in which this module was loaded."""

    def __init__(self) -> None:
        self.is_child = False
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._note)

    def _note(self) -> None:
        self.is_child = True


_forks = _Forks()


def threads_after_a_fork() -> AbstractContextManager:
    """One thread in a forked process, else as many as there are.

    Threads do not outlive a fork, and GNU's OpenMP waits for those of the parent without end. torch's own number stays
    at one: it belongs to the whole process, in which no larger one can work.
    """
    if not _forks.is_child:
        return nullcontext()
    if torch.get_num_threads() > 1:
        torch.set_num_threads(1)
    return _one_thread()
