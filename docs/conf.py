"""The site: `make docs` builds it; a warning is an error, and every code cell runs."""

import sys
from pathlib import Path

import edgeinfer
import edgeinfer.bridge

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

project = "edgeinfer"
author = "The edgeinfer developers"
copyright = author
version = release = edgeinfer.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "numpydoc",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
    "alternatives",
    "mathml",
    "gallery",
    "c_headers",
    "plain_docstrings",
    "public_names",
]
exclude_patterns = ["_templates"]
templates_path = ["_templates"]

myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "auto"
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_merge_streams = True
nb_render_markdown_format = "myst"

autodoc_member_order = "bysource"
autodoc_typehints = "none"
numpydoc_show_class_members = False
# Names that load on first use are documented like the others.
for name in edgeinfer.bridge.__all__:
    setattr(edgeinfer.bridge, name, getattr(edgeinfer.bridge, name))

default_role = "code"
html_theme = "furo"
html_title = f"edgeinfer {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
