"""The commands of the study; `cds_lib.study.cli` reads their options."""
