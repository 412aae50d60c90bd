"""The edge's half."""
