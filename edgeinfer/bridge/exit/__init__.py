"""Networks that are left early."""
