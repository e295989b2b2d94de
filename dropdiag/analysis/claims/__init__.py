"""The paper's claims as rules that runs can support or contradict."""
