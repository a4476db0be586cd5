"""What the study's own code costs, each part against something plain, in turn, in one process, on one thread."""
