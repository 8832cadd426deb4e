"""Threads: a small fit keeps to one, in a thread of its own too."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from skdevae.training.threads import fitting_threads, mapped_in_threads, products_gain


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("gains", "expected"), [(False, 1), (True, 2)])
def test_a_fit_in_a_thread_of_its_own_has_as_many_threads_as_it_gains_from(gains, expected, two_threads):
    def threads_of_a_fit():
        with fitting_threads(gains):
            torch.ones(200, 200) @ torch.ones(200, 200)
            return torch.get_num_threads()

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(threads_of_a_fit).result() == expected
    assert torch.get_num_threads() == 2


def test_large_products_gain_from_a_second_thread():
    assert products_gain(1000, 1000, 100)
    assert not products_gain(128, 50, 64)


@pytest.mark.parametrize("n_threads", [1, 2])
def test_results_of_threads_come_in_the_order_of_the_items_of_which_few_are_held(n_threads, two_threads):
    torch.set_num_threads(n_threads)
    taken = []

    def items():
        for number in range(20):
            taken.append(number)
            yield number

    def square(number):
        assert torch.get_num_threads() == 1
        return torch.ones(1, requires_grad=True) * number**2

    found = []
    with torch.no_grad():
        for value in mapped_in_threads(square, items()):
            assert not value.requires_grad
            assert len(taken) - len(found) <= n_threads + 1
            found.append(int(value))
    assert found == [number**2 for number in range(20)]


def test_what_a_thread_raises_is_raised(two_threads):
    def fail(number):
        raise ValueError(f"row {number}")

    with pytest.raises(ValueError, match="row 0"):
        list(mapped_in_threads(fail, range(5)))
