"""Labelled parameter studies: in-process or on Dask, resumable."""

from edgeinfer.study.sweep import sweep

__all__ = ["sweep"]
