"""How all figures look, whatever the user has set for their own."""

import matplotlib.style

# Decorates every function that makes or draws a figure: a matplotlibrc of the user (LaTeX, fonts, sizes) changes none,
# and a "$" in the name of a class is no formula. The salt makes an SVG the same, byte for byte, every time.
own_style = matplotlib.style.context(["default", {"text.parse_math": False, "svg.hashsalt": "cds_lib"}])
