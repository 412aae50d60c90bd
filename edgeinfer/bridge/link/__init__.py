"""The shaped link between processes."""
