"""What is to be run, and what the paper says: names, specs, protocols, registered plans, published numbers, claims."""
