"""Fixed vectors of items: of text, files of vectors, a knowledge graph, a sentence encoder, and of co-occurrence.

What does not depend on a fit becomes `Tables.vectors` when the data are read (`evorec.data.content.sources`). What
interactions say is fitted on the training rows when they are encoded (`evorec.data.content.cooccurrence`).
"""
