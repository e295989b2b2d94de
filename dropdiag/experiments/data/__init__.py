"""Image data sets: readers of their published files, and the MNIST sample that is shipped."""
