"""Write notebooks, and run folders like those of a training, as far as tables and reports read them."""

import csv
import io
import json

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from cds_lib.study.checkout import CHECKOUT

MINI = CHECKOUT / "results" / "mini"  # the committed results


def write_run(store, spec, metrics=None, status=None, history=None):
    """Write the run's spec and, if given, metrics.json, status.json and history.csv; return the run folder. The
    last row of the history gets the last-epoch values of the metrics."""
    folder = store.run_dir(spec.id)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "spec.json").write_text(json.dumps(spec.to_dict()))
    for name, content in (("metrics.json", metrics), ("status.json", status)):
        if content is not None:
            (folder / name).write_text(json.dumps(content))
    if history is not None:
        rows = list(csv.DictReader(io.StringIO(history)))
        last = {name.removesuffix("_last"): value for name, value in (metrics or {}).items() if name.endswith("_last")}
        rows[-1].update(last)
        with open(folder / "history.csv", "w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[-1]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    return folder


def change_json(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def top1(last, best=None):
    """Return the metrics that every run of a classifier has."""
    return {"test_top1_last": last, "test_top1_best": last if best is None else best, "best_epoch": 1, "seconds": 1.0}


def write_notebook(path, *sources, parameters="profile = 'smoke'"):
    """Write a notebook with a title, a parameters cell, and cells c1, c2 ... with these sources."""
    cells = [new_markdown_cell("# Title\n\n## Outputs", id="title")]
    cells.append(new_code_cell(parameters, id="parameters", metadata={"tags": ["parameters"]}))
    cells += [new_code_cell(source, id=f"c{number}") for number, source in enumerate(sources, 1)]
    kernelspec = {"name": "a-kernel-nobody-has", "display_name": "x", "language": "python"}
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": kernelspec}), path)
    return path
