"""A model of the objectives that chooses which genomes are worth a training."""
