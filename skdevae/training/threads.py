"""When a second thread is worth waiting for."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

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

    Small tables gain nothing, and on a busy machine threads that wait for each other cost most time. OpenMP alone: its
    limit is the thread's own, while a BLAS library's would be the whole process's.
    """
    return nullcontext() if gains else threadpool_limits(1, user_api="openmp")
