"""What this machine has for dropdiag, and whether a short training is recorded right on it."""
