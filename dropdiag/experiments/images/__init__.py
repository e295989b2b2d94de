"""Figure 8: a VGG-like network with ReLU on CIFAR-10, CIFAR-100 and SVHN, with batch norm, GAAF, both, neither."""
