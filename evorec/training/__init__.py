"""Training: stacks of models as single programs, their optimisers, memory and precision."""
