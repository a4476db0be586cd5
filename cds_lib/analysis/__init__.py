"""Analyses of a trained network: measures on its features, as pure functions of networks, tensors and arrays."""
