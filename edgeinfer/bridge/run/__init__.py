"""The system run as processes, under load, and measured."""
