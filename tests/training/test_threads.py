"""Threads: a small fit keeps to one, in a thread of its own too."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from skdevae.training.threads import fitting_threads, products_gain


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
