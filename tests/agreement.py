"""What "the same" means in the tests: the tolerance of CONTRIBUTING.md, in one place.

The same table, seed, machine and number of threads give the same bits. Matrix products round by where a row stands in
its block and by the processor, so with another order of rows, other chunks, another processor or another number of
threads, results agree only up to rounding: that is what :func:`assert_agree` asserts. (Models with an encoder learn
from batches, which go by the place of a row: of theirs, another order of rows is another fit.)
"""

from __future__ import annotations

from typing import Any

import numpy as np

#: largest difference, relative to the largest entry of the array, by the dtype in which the numbers were computed
TOLERANCE = {np.dtype(np.float64): 1e-9, np.dtype(np.float32): 1e-4}


def assert_agree(actual: Any, expected: Any, *, computed_in: Any = np.float64, err_msg: str = "") -> None:
    """Assert that two arrays (or tensors, or numbers) are equal up to the rounding of ``computed_in``.

    NaN agrees with NaN, and infinity with the same infinity. Differences are relative to the largest finite entry of
    ``expected``: an entry near zero may be what is left of larger ones, and then it has their rounding. Columns of very
    different sizes need a comparison each.
    """
    __tracebackhide__ = True
    actual, expected = np.asarray(actual, dtype=np.float64), np.asarray(expected, dtype=np.float64)
    assert actual.shape == expected.shape, f"shapes {actual.shape} and {expected.shape} differ. {err_msg}"
    finite = expected[np.isfinite(expected)]
    scale = float(np.abs(finite).max()) if finite.size else 1.0
    tolerance = TOLERANCE[np.dtype(computed_in)] * (scale or 1.0)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance, equal_nan=True, err_msg=err_msg)
