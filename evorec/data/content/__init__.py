"""Fixed vectors of items: of text, files of vectors, a knowledge graph, a sentence encoder, and of co-occurrence.

Vectors that do not depend on a fit become `Tables.vectors` when the data are read (`evorec.data.content.sources`).
Co-occurrence is learned from the training rows when they are encoded (`evorec.data.content.cooccurrence`).
"""
