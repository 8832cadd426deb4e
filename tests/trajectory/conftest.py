"""Helpers of the trajectory tests are modules beside them; their assertions are explained as those of tests are."""

import pytest

pytest.register_assert_rewrite("trajectory")
