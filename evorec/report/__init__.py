"""What a run directory says, as tables, figures and one HTML page."""
