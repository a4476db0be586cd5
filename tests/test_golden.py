"""The bits of a training do not change: the safety net for every change to the numeric code.

`golden/steps.json` holds the results of version 0.1.0, by kernels (`cds_lib.study.engines.kernels`) and kind of run, at
the package versions that it names. If a change of bits is intended, this makes it again, with AVX-512 and a C compiler:

    PYTHONPATH=. python tests/test_golden.py

With the real images (in CDS_DATA_ROOT, or data/ of the checkout) one epoch of committed runs is checked as well: for
each method the cheapest run without a parent.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from cds_lib.errors import UsageError
from cds_lib.study.data import registry
from cds_lib.study.engines import provenance
from cds_lib.study.engines.kernels import Kernels, on_amd
from cds_lib.study.engines.reproduce import reproduce
from cds_lib.study.store import Store

HERE = Path(__file__).parent
GOLDEN = HERE / "golden" / "steps.json"
KERNELS = [Kernels("AVX512", "AMD"), Kernels("AVX512", "AVX512"), Kernels("AVX2", "AMD"), Kernels("AVX2", "AVX2")]
# Kernels of the other vendor run the same code and would take as long again.
OWN = [kernels for kernels in KERNELS if (kernels.mkl == "AMD") == on_amd()]
RUNS = "2c76916d7a2d da0b69d96d2c 0a48f994c587 5f06227a739e 50405cad41ad 18ecc5a25562 7a912248dd43 99d443f81823".split()

pytestmark = pytest.mark.xdist_group("long")  # large groups start first


def versions():
    return {name: version for name, version in provenance.versions().items() if name != "python"}


def steps(kernels, folder):
    """Return the output of `golden_steps.py`, computed with these kernels."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(provenance.CHOOSING)}
    paths = os.pathsep.join([str(HERE.parent), str(HERE)])
    command = [sys.executable, str(HERE / "golden_steps.py"), "found.json"]
    environment = {**inherited, "PYTHONPATH": paths, **kernels.environment(folder)}
    ended = subprocess.run(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)
    assert ended.returncode == 0, ended.stderr
    found = json.loads((folder / "found.json").read_text())
    assert kernels.are(found["instructions"])
    return found["steps"]


@pytest.mark.parametrize("kernels", OWN, ids=lambda kernels: kernels.name)
def test_steps_of_every_kind_of_run_are_what_they_were(kernels, tmp_path):
    golden = json.loads(GOLDEN.read_text())
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        pytest.skip("the values are those of x86-64 on Linux")
    if golden["versions"] != versions():
        pytest.skip(f"the values are those of {golden['versions']}")
    if kernels.lack:
        pytest.skip(kernels.lack)
    assert steps(kernels, tmp_path) == golden[kernels.name]


@pytest.mark.parametrize("run_id", RUNS)
def test_an_epoch_of_a_committed_run_is_what_it_was(run_id, tmp_path):
    store, root = Store(HERE.parent / "results" / "mini"), registry.data_root()
    data = registry.entry(store.spec(run_id).dataset)
    if not data.held_at(root):  # the training would report this seconds later
        pytest.skip(f"{data.title} is not in {root}")
    try:
        outcomes = reproduce(run_id, store, root, tmp_path, 1, print)
    except UsageError as error:  # missing or other images, other versions, or missing kernels
        pytest.skip(str(error))
    assert not outcomes[-1].differences


if __name__ == "__main__":
    values = {"versions": versions(), "specs": json.loads(GOLDEN.read_text(encoding="utf-8"))["specs"]}
    for one in KERNELS:
        with tempfile.TemporaryDirectory() as name:
            values[one.name] = steps(one, Path(name))
    parts = []
    for name, part in values.items():
        lines = ",\n".join(f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in part.items())
        parts.append(f" {json.dumps(name)}: {{\n{lines}\n }}")
    GOLDEN.write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")
