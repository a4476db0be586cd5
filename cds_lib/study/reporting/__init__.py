"""What is shown of finished runs: tables, verdicts, plots, and what every notebook shows. Nothing here trains."""
