"""What a model holds and draws from: found, copied, and put back."""
