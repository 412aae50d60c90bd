"""What asv follows over commits."""
