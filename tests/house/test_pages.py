"""Pages of the site show all that is written in them."""

from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
WRITTEN = ["*.md", "user_guide/*.md", "coming_from/*.md", "api/*.md"]
PAGES = sorted(page for pattern in WRITTEN for page in DOCS.glob(pattern))


@pytest.mark.skipif(not PAGES, reason="only a checkout has the pages")
def test_no_line_of_a_paragraph_is_read_as_a_comment():
    """MyST leaves out lines that begin with a percent sign, and says nothing; a wrapped "90 %" may begin one."""
    comments = [
        f"{page.relative_to(DOCS)}:{number}"
        for page in PAGES
        for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1)
        if line.startswith("%")
    ]
    assert not comments
