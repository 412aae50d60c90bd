"""Kinds of work, one file each: what an edge does, what a device does, and what a user asks."""
