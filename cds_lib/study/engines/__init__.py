"""How runs are trained and analysed: setup, one run, the engines that many run on. Nothing here makes a report."""
