"""Pure functions of tensors: losses, geometry, optimal transport, batch normalisation."""
