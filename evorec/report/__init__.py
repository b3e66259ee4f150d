"""Tables, figures and an HTML page of a run directory or a data set."""
