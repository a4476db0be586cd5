"""Two short trainings for the first notebook: ten epochs on the ten-class stand-in, plain and with CDS."""

from dataclasses import replace

from cds_lib.study.plan import protocols, settings
from cds_lib.study.plan.table import Cell, Table, cell


def cells(profile: str) -> list[Cell]:
    """Return the same cells under every profile. CDS has weight 1, because 0.1 does nothing in ten epochs."""
    found = []
    for method, options in (("baseline", {}), ("cds", {"weight": 1.0})):
        run = settings.supervised("smoke", "cifar10", "resnet18", method)
        budget = replace(run.budget, width=0.125, train_size=2_000, epochs=10, eval_every=1, warmup_epochs=1)
        run = replace(run, budget=budget, options={**run.options, **options})
        found.append(cell(run, protocols.SEEDS["smoke"]))
    return found


TABLE = Table(
    title="Start here",
    topic="contrastive deep supervision in five minutes",
    question="What does contrastive deep supervision do, and what does a training with it look like?",
    note="nothing published: synthetic images",
    build=cells,
    protocol="The same in every profile: small synthetic images, a narrow network, ten epochs, one seed. It shows what "
    "a training looks like; its accuracies mean nothing beyond that.",
    own_seeds=True,
)
