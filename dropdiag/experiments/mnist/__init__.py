"""The paper's experiment on MNIST: Figures 1 to 7."""
