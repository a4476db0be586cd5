"""From finished runs to tables, figures and pages: everything is a function of one data frame (`frame.py`)."""
