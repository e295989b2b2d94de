"""To and from other tools; each module says what it needs."""
