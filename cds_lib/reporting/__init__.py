"""What is shown of finished runs: statistics, verdicts, tables, figures, notebooks, pages. Nothing here trains."""
