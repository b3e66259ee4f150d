"""A member as a bundle: arrays, graphs, checks and the model card."""
