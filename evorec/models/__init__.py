"""Recommender models: the evolved multi-task recommender and the baselines it must beat.

MKL, with which PyTorch multiplies matrices on most CPUs, may round by where a matrix begins in memory (on AMD EPYC it
does), and where a member's matrices begin depends on its company. Its reproducible mode costs nothing measurable. MKL
asks for it once, at the first product of a process: a program that multiplies with PyTorch before it imports this
sets ``MKL_CBWR`` itself.
"""

import os

os.environ.setdefault("MKL_CBWR", "AUTO")
