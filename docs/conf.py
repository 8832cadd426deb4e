"""How the site is built. `make docs` builds it, offline, with every warning as an error."""

import os
import sys
from datetime import date
from importlib.metadata import metadata
from pathlib import Path

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS / "_ext"))

_package = metadata("skdevae")

project = "skdevae"
author = "skdevae developers"
copyright = f"{date.today().year}, {author}"
release = _package["Version"]
version = release

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "myst_parser",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "mathml",
]
exclude_patterns = ["_build", "_templates", "auto_examples/**/*.ipynb", "auto_examples/**/*.py"]
templates_path = ["_templates"]
suppress_warnings = ["config.cache"]  # the gallery's settings hold functions, which Sphinx cannot store

# Other projects' inventories come from the net, so they are asked for only by name: SKDEVAE_INTERSPHINX=1 make docs
if os.environ.get("SKDEVAE_INTERSPHINX") == "1":
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {
        "python": ("https://docs.python.org/3", None),
        "numpy": ("https://numpy.org/doc/stable", None),
        "pandas": ("https://pandas.pydata.org/docs", None),
        "sklearn": ("https://scikit-learn.org/stable", None),
        "torch": ("https://pytorch.org/docs/stable", None),
    }

# Markdown
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath", "fieldlist"]
myst_heading_anchors = 3

# API reference
autosummary_generate = True
autodoc_typehints = "none"  # docstrings say types in words
numpydoc_show_class_members = False  # the template of classes lists them
numpydoc_xref_param_type = False

# Gallery
sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"/plot_",
    "doc_module": ("skdevae",),
    "backreferences_dir": "api/backreferences",
    "reference_url": {"skdevae": None},
    "parallel": int(os.environ.get("SKDEVAE_WORKERS", 1)),
    "inspect_global_variables": False,
    "show_memory": False,
    "show_signature": False,
    "download_all_examples": False,
    "min_reported_time": 0,
    "remove_config_comments": True,
    "plot_gallery": os.environ.get("SKDEVAE_GALLERY", "1") == "1",
    "only_warn_on_example_error": False,
    "abort_on_example_error": False,
    "thumbnail_size": (400, 280),
}

# Look
html_math_renderer = "mathml"
html_theme = "pydata_sphinx_theme"
html_title = "skdevae"
html_static_path = ["_static"]
html_css_files = ["skdevae.css"]
html_favicon = "_static/favicon.svg"
html_context = {"default_mode": "auto"}
html_show_sourcelink = False
html_theme_options = {
    "github_url": "https://github.com/skdevae/skdevae",
    "navbar_align": "left",
    "show_toc_level": 2,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
html_sidebars = {
    "getting_started": [],
    "benchmarks": [],
    "architecture": [],
    "changelog": [],
    "contributing": [],
}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
