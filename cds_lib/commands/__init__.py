"""The commands of the study; `cds_lib.cli` reads their options."""
