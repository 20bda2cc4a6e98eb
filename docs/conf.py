"""Configuration of the documentation site: `make site` builds it into build/site."""

import importlib.metadata

project = "Heddle"
author = "The Heddle developers"
copyright = author
release = importlib.metadata.version("heddle")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns: list[str] = []

highlight_language = "none"      # blocks that name no language are command lines
html_theme = "furo"
html_title = "Heddle"
html_show_sphinx = False
html_static_path = ["_static"]
html_css_files = ["heddle.css"]

myst_heading_anchors = 3
suppress_warnings = ["myst.xref_missing"]     # links from pages to files of the tree; the tests check that they lead somewhere
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
napoleon_custom_sections = [("Members", "params_style"), "Source"]
napoleon_use_rtype = False
autosummary_generate = True
