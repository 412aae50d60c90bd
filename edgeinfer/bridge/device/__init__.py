"""The device's half."""
