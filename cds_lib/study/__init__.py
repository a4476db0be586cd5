"""What is run and where it is kept: specs, tables, published numbers, claims, costs, the store. Needs no torch."""
