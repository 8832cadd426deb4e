"""Row context: every field goes along with its rows, whatever is done with them."""

from dataclasses import fields

import numpy as np
import pytest
import torch

from skdevae.nn.row_context import EMPTY, RowContext

NAMES = [field.name for field in fields(RowContext)]


def _context(n=5):
    """A context whose every field has numbers of its own; the component is whole numbers."""
    arrays = {name: np.arange(n) + 10.0 * position for position, name in enumerate(NAMES)}
    return RowContext(**arrays | {"component": np.array([0, -1, 2, 1, -1])[:n]})


@pytest.mark.parametrize("index", [slice(1, 4), np.array([3, 0, 3]), np.array([True, False, True, True, False])])
def test_all_fields_are_taken_along(index):
    context, taken = _context(), _context().take(index)
    for name in NAMES:
        np.testing.assert_array_equal(getattr(taken, name), getattr(context, name)[index])


def test_tensors_have_the_dtype_of_the_model_but_whole_numbers_stay_whole():
    tensors = _context().tensors(torch.zeros((), dtype=torch.float32))
    assert {getattr(tensors, name).dtype for name in NAMES if name != "component"} == {torch.float32}
    assert tensors.component.dtype == torch.int64


def test_copies_come_one_after_another():
    context = _context().tensors(torch.zeros((), dtype=torch.float64))
    repeated = context.repeat(3)
    for name in NAMES:
        torch.testing.assert_close(getattr(repeated, name), torch.cat([getattr(context, name)] * 3))


def test_a_context_without_facts_stays_without():
    assert EMPTY.take(slice(2)) == EMPTY
    assert EMPTY.repeat(4) == EMPTY
    assert EMPTY.tensors(torch.zeros(())) == EMPTY


def test_one_fact_is_replaced_and_the_others_stay():
    context = _context()
    other = context.replaced(log_size=None)
    assert other.log_size is None
    np.testing.assert_array_equal(other.weight, context.weight)
