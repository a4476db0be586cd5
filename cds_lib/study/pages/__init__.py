"""What is written for people to open: executed notebooks, HTML pages, the index, the verdicts in the README."""
