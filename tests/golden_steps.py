"""Train three steps of each run of golden/steps.json, after its parents, on stand-ins, and write the exact results.

`test_golden.py` runs it as `python golden_steps.py FILE`; the environment chooses the kernels. The runs are smaller
smoke runs that together cover every method, detector, augmentation and setting of version 0.1.0.
"""

import functools
import hashlib
import json
import sys
import tempfile
from itertools import islice
from pathlib import Path

import torch

from cds_lib.study.data import sets
from cds_lib.study.engines import provenance, setup
from cds_lib.study.plan.spec import RunSpec
from cds_lib.study.store import Store
from cds_lib.training import checkpoint, loop

GOLDEN = Path(__file__).parent / "golden" / "steps.json"
STEPS = 3


class First:
    """The first batches of an epoch."""

    def __init__(self, batches):
        self.batches = batches

    def __len__(self):
        return min(STEPS, len(self.batches))

    def epoch(self, epoch):
        return islice(self.batches.epoch(epoch), len(self))


def train(spec, store, cpu=torch.device("cpu")):  # noqa: B008
    """Return the mean loss of the steps and a hash of the final weights, which the store keeps for child runs."""
    if spec.parent and not store.model(spec.parent.id).exists():
        train(spec.parent, store)
    ready = setup.prepare(spec, store, store.root, cpu)
    [row] = loop.fit(
        ready.method,
        First(ready.batches),
        lambda backbone: {},
        spec.budget,
        device=cpu,
        checkpoint_path=store.checkpoint(spec.id),
        on_epoch=lambda rows: None,
        pretrained=ready.pretrained,
        stop_after=1,
    )
    state = ready.method.state_dict()
    checkpoint.save(store.model(spec.id), {"method": state, "spec": spec.canonical})
    weights = hashlib.sha256(b"".join(tensor.contiguous().numpy().tobytes() for tensor in state.values()))
    return [row["train_loss"], weights.hexdigest()[:16]]


if __name__ == "__main__":
    torch.set_num_threads(1)
    sets.load = functools.cache(sets.load)
    with tempfile.TemporaryDirectory() as folder:
        specs = json.loads(GOLDEN.read_text(encoding="utf-8"))["specs"]
        steps = {name: train(RunSpec.from_dict(spec), Store(folder)) for name, spec in specs.items()}
    found = {"instructions": provenance.instructions(), "steps": steps}
    Path(sys.argv[1]).write_text(json.dumps(found))
