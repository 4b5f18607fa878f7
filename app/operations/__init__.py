"""Commands that set up, watch and repair a deployment."""
