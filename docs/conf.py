"""Sphinx builds the pages of this folder: `make docs`, into docs/_build."""

import sys
from importlib import metadata
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

project = "keras_torch_convert"
release = metadata.version("keras-torch-convert")
copyright = "the keras_torch_convert authors"  # Sphinx's own name for it
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]

# Headings are targets of links, as on the page of a repository.
myst_heading_anchors = 3
# Docstrings say `name` where reStructuredText has ``name``.
default_role = "code"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
autodoc_member_order = "bysource"
napoleon_use_ivar = True
pygments_style = "friendly"
pygments_dark_style = "monokai"

html_theme = "furo"
html_title = "keras_torch_convert"
html_show_sphinx = False
html_copy_source = False
html_static_path = ["static"]
html_css_files = ["pages.css"]
