"""Heads and taps (docs/registration.md, exploratory): what must stand between a stage and its contrastive loss?"""

from cds_lib.study.plan.rematch import CDS_BOTH, CONTROL, arm_cell, final
from cds_lib.study.plan.table import Cell, Table
from cds_lib.study.tables.ladder import SEEDS

VARIANTS = {
    "heads": {
        "as_released": ("heads as released: 3, 2, 1, 0 units", {}),
        "no_unit": ("no unit at any tap", {"head_units": 0}),
        "one_unit": ("one unit at every tap", {"head_units": 1}),
        "two_units": ("two units at every tap", {"head_units": 2}),
        "three_units": ("three units at every tap", {"head_units": 3}),
        "mlp": ("an MLP alone at every tap", {"head_units": 0, "head_mlp": True}),
        "released_and_mlp": ("heads as released, then an MLP", {"head_mlp": True}),
    },
    "taps": {
        "as_released": ("taps 1 to 4", {}),
        "last_tap": ("tap 4 alone", {"taps": [4]}),
        "without_tap_1": ("taps 2, 3, 4", {"taps": [2, 3, 4]}),
        "without_tap_2": ("taps 1, 3, 4", {"taps": [1, 3, 4]}),
        "without_tap_3": ("taps 1, 2, 4", {"taps": [1, 2, 4]}),
        "without_tap_4": ("taps 1, 2, 3", {"taps": [1, 2, 3]}),
    },
}


def cells(profile: str) -> list[Cell]:
    """Return CDS of the rematch with other heads, then with other taps; each group begins with the control."""
    found = []
    for setting, variants in VARIANTS.items():
        found.append(arm_cell(profile, final(profile, CONTROL), SEEDS, CONTROL, setting))
        for name, (_, options) in variants.items():
            run = final(profile, CDS_BOTH, **options)
            found.append(arm_cell(profile, run, SEEDS, f"{setting}_{name}", setting))
    return found


TABLE = Table(
    title="Heads and taps",
    topic="CDS with other heads and at other stages, ResNet-18 on CIFAR-100",
    question="Does CDS need a head at each tap, and all of its taps?",
    note="nothing: exploratory, announced in docs/registration.md",
    build=cells,
    names={
        f"{setting}_{name}": f"CDS, {words}"
        for setting, variants in VARIANTS.items()
        for name, (words, _) in variants.items()
    }
    | {"heads": "heads", "taps": "taps"},
    own_seeds=True,
    official=False,
)
