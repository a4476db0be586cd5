"""Data sets as uint8 arrays: registry, fetch/verify/import, official layouts, stand-ins, splits, batches."""
