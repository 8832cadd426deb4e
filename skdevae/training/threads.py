"""Threads: when a fit gains from a second one."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from threadpoolctl import threadpool_limits

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
    # The first call of torch in a thread sets the number of its OpenMP threads: after the limit, it would undo it.
    torch.get_num_threads()
    return threadpool_limits(1, user_api="openmp")
