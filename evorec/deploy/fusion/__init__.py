"""List scores that combine the heads of a trained member, evolved without training."""
