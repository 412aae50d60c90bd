"""Hypothesis tries the same examples in every run; with EDGEINFER_FUZZ=1 it tries new ones."""

import os

from hypothesis import settings

settings.register_profile("same", derandomize=True)
if os.environ.get("EDGEINFER_FUZZ") != "1":
    settings.load_profile("same")


def pytest_collection_modifyitems(items):
    """The slow ones first, so that no worker is left with one while the others have nothing to do."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
