"""What to run and what the paper reports: names, specs, protocols, registered plans, published numbers, claims."""
