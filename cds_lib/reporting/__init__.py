"""What is shown of finished runs: statistics, verdicts, tables, figures, notebooks, pages. Nothing here trains."""

import sys

# nbformat validates with jsonschema, which builds a grammar of international resource identifiers where it finds this
# package: a second in every process that reads a notebook. No notebook's schema has such a format, and jsonschema does
# without it.
sys.modules.setdefault("rfc3987_syntax", None)
