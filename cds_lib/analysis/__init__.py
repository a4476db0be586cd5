"""What a trained network has learned: measures on its features, as pure functions of networks, tensors and arrays."""
