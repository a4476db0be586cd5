"""What the methods of a table took beside its baseline."""

from __future__ import annotations

import pandas as pd

from cds_lib.reporting import naming


def sentence(frame: pd.DataFrame) -> str:
    """Seconds of each method's finished trainings (`study.report.frame.results`), in multiples of the baseline's on the
    same network and data set; the range where networks differ. The runs that a run starts from are not in it."""
    if "seconds" not in frame:
        return ""
    frame = frame.replace({"setting": {"distill": "supervised"}})  # whose baseline is a training from scratch
    seconds = frame.pivot_table(values="seconds", index=["dataset", "model", "setting"], columns="method", sort=False)
    if "baseline" not in seconds:
        return ""
    parts = []
    for method, ratios in seconds.div(seconds.pop("baseline"), axis=0).items():
        least, most = (f"{ratio:.1f}" for ratio in (ratios.min(), ratios.max()))
        if ratios.notna().any():
            parts.append(f"{naming.method_name(method)} {least if least == most else f'{least} to {most}'}")
    return (
        "Methods do not have equal compute. What a training took, in multiples of the baseline's seconds (other "
        f"trainings shared the machine; a teacher's own training apart): {'; '.join(parts)}."
    )
