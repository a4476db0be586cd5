"""Training and analysis of runs: setup, one run, the engines that execute many. Nothing here makes a report."""
