"""Ensembles of the members of an archive, selected on validation without training."""
