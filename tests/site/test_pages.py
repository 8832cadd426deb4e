"""The built site, opened in a browser: pages load without errors, pictures are there, and lines fit a telephone.

``make docs`` builds the site and names its folder in SKDEVAE_SITE. Elsewhere these tests are skipped. Without a browser
they are skipped, too, unless SKDEVAE_REQUIRE_BROWSER=1.
"""

import os
import shutil
import threading
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import pytest

SITE = os.environ.get("SKDEVAE_SITE")
if not SITE:
    pytest.skip("`make docs` builds the site that these tests open", allow_module_level=True)
REQUIRED = os.environ.get("SKDEVAE_REQUIRE_BROWSER") == "1"
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
if not (BROWSER and DRIVER) and not REQUIRED:
    pytest.skip("there is no Chromium with its driver on this machine", allow_module_level=True)

webdriver = pytest.importorskip("selenium.webdriver")
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

ROOT = Path(SITE).resolve()
NARROW, WIDE = (390, 844), (1280, 900)
PAGES = [
    "index.html",
    "getting_started.html",
    "user_guide/index.html",
    "user_guide/basisdevae.html",
    "user_guide/significance.html",
    "coming_from/index.html",
    "coming_from/papers_code.html",
    "auto_examples/index.html",
    "auto_examples/plot_tumour_biomarkers.html",
    "api/index.html",
    "api/generated/skdevae.BasisDeVAEClusterer.html",
    "benchmarks.html",
    "architecture.html",
    "changelog.html",
]


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="session")
def address():
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=ROOT)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="session")
def browser():
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=DRIVER))
    yield driver
    driver.quit()


def opened(browser, url: str, size: tuple[int, int]) -> None:
    browser.get_log("browser")  # empties it
    # a window of Chromium cannot be narrower than 500 px, what it shows can
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size is NARROW},
    )
    browser.get(url)
    # pictures below the fold load when they are scrolled to
    browser.execute_script("document.querySelectorAll('img').forEach(image => { image.loading = 'eager' })")
    WebDriverWait(browser, 20).until(
        lambda driver: driver.execute_script(
            "return document.readyState === 'complete' && [...document.images].every(image => image.complete)"
        )
    )


def complaints(browser) -> list[str]:
    return [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
@pytest.mark.parametrize("page", PAGES)
def test_page_is_whole(browser, address, page, size):
    opened(browser, f"{address}/{page}", size)
    assert complaints(browser) == []
    missing = browser.execute_script(
        "return [...document.images].filter(image => image.naturalWidth === 0).map(image => image.src)"
    )
    assert missing == []
    assert browser.find_element(By.TAG_NAME, "h1").text
    shown, whole = browser.execute_script("return [window.innerWidth, document.documentElement.scrollWidth]")
    assert shown == size[0]
    assert whole <= shown, "the page scrolls sideways"


def test_pictures_have_words(browser, address):
    opened(browser, f"{address}/index.html", WIDE)
    silent = browser.execute_script("return [...document.images].filter(image => !image.alt).map(image => image.src)")
    assert silent == []


@pytest.mark.parametrize("word, page", [("VampVAE", "skdevae.VampVAE"), ("feature_table", "feature_table")])
def test_search_finds(browser, address, word, page):
    opened(browser, f"{address}/search.html?q={word}", WIDE)
    results = WebDriverWait(browser, 20).until(
        lambda driver: driver.find_elements(By.CSS_SELECTOR, "#search-results li a")
    )
    assert any(page in result.get_attribute("href") for result in results)
    assert complaints(browser) == []


class _Links(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.found += [value for name, value in attrs if name in ("href", "src") and value]


def links_within(page: Path) -> list[str]:
    """Links of a page to other files of the site."""
    links = _Links()
    links.feed(page.read_text(encoding="utf-8"))
    outside = ("mailto:", "data:", "javascript:", "#")
    return [link for link in links.found if "//" not in link and not link.startswith(outside)]


def test_every_link_within_the_site_leads_somewhere():
    """Sphinx checks references. What is written as HTML or made by the gallery is checked here."""
    dead = [
        f"{page.relative_to(ROOT)}: {link}"
        for page in ROOT.rglob("*.html")
        if "_static" not in page.parts  # templates of the theme
        for link in links_within(page)
        if not (page.parent / unquote(link.split("#")[0].split("?")[0])).exists()
    ]
    assert dead == []


def test_no_example_of_the_gallery_warns():
    stories = list((ROOT / "auto_examples").glob("plot_*.html"))
    assert stories
    assert [page.name for page in stories if "Warning: " in page.read_text(encoding="utf-8")] == []
