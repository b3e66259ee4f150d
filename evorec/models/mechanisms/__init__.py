"""Built-in sharing mechanisms, each in a file of its own.

They stay importable without torch, which the search space does without; operations on tensors are methods of the
`evorec.models.forward.ForwardPass` that a network is given, or imported by the method that needs them.
"""
