"""A night: the data are checked, a search is run in its time, and its best model is judged and perhaps promoted."""
