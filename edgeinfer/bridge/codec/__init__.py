"""What crosses a cut, compressed."""
