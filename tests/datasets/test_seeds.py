"""A seed gives the same data every time, and leaves NumPy's global state alone."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.utils import check_random_state

from skdevae.datasets import make_basis_toy, make_cell_clusters, make_progression, make_progression_counts


@pytest.mark.parametrize("make", [make_basis_toy, make_cell_clusters, make_progression, make_progression_counts])
def test_same_seed_same_data_and_the_global_state_is_left_alone(make):
    global_state = check_random_state(None)
    before = global_state.get_state()[1].copy()
    first, again, other = make(random_state=5), make(random_state=check_random_state(5)), make(random_state=6)
    np.testing.assert_array_equal(global_state.get_state()[1], before)
    dense = [bunch.data.toarray() if sparse.issparse(bunch.data) else bunch.data for bunch in (first, again, other)]
    np.testing.assert_array_equal(dense[0], dense[1])
    assert (dense[0] != dense[2]).any()
