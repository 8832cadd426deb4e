"""A link from the figure of an estimator, as notebooks show it, to its page of the API reference."""

from __future__ import annotations

#: address of the page of an estimator; the site's address is also the one under `Documentation` in pyproject.toml
DOC_LINK = "https://skdevae.readthedocs.io/en/latest/api/generated/skdevae.{estimator_name}.html"
