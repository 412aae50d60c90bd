"""Delay guarantees for device-edge collaborative inference."""

__version__ = "0.1.0"
