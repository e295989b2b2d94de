"""The parts of gpu.py; each takes a `Setting` and returns a `Section`, and runs on the CPU as well, at a small size."""
