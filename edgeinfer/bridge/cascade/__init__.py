"""Text-to-image cascades: folders, networks, schedulers, and running them."""
