"""The rematch (docs/registration.md): do the contrastive losses of CDS add anything to a second view?"""

from dataclasses import replace
from functools import partial

from cds_lib.study.plan import rematch as plan
from cds_lib.study.plan.rematch import ARMS, CDS_BOTH, CONTROL, FIT, OUTCOME, SEEDS, arm_cell, as_released, final
from cds_lib.study.plan.table import TOP1, Cell, Table

DOSES = (0.03, 0.1, 0.3, 1.0, 3.0)  # weights of CDS; 0 is the control
PULLS = ("gradient_ratio_first", "gradient_ratio_last", "gradient_cosine_last")
_SIX = SEEDS[:6]
# The finalist of the control that fits its training images best. It fits as well as CDS with its chosen settings.
_FITS_AS_WELL = {"lr": 0.05, "weight_decay": 2e-3}


def cells(profile: str) -> list[Cell]:
    """Return the five arms by each metric, then the dose, the exploratory, the equal-fit and the as-released rows."""
    row = partial(arm_cell, profile)
    control = final(profile, CONTROL)
    at_lr = {"lr": control.budget.lr} if control else {}
    found = [
        row(final(profile, arm), SEEDS if arm in (CONTROL, CDS_BOTH) else plan.OTHER_SEEDS, arm, "rematch", metric)
        for metric in (OUTCOME, plan.LOSS, TOP1, *FIT)
        for arm in ARMS
    ]
    found.append(row(control, _SIX, CONTROL, "rematch_dose", OUTCOME))
    for weight in DOSES:
        run = final(profile, CDS_BOTH, **at_lr, weight=weight) if control else None
        dosed = row(run, _SIX, f"{CDS_BOTH}_weight_{weight:g}", "rematch_dose", OUTCOME)
        found.append(dosed)
        found += [replace(dosed, metric=metric, source="gradients", reference=None) for metric in PULLS]
    exploratory = {
        CONTROL: control,
        "cds_released_weight_0": final(profile, "cds_released", weight=0.0),
        "control_view1_twice": final(profile, CONTROL, view1_twice=True),
        "baseline_120_epochs": final(profile, "baseline", epochs=120 if profile != "smoke" else 2),
    }
    found += [row(run, _SIX, name, "rematch_exploratory", OUTCOME) for name, run in exploratory.items()]
    fitting = {
        CONTROL: final(profile, CONTROL, **(_FITS_AS_WELL if profile == "mini" else {})),
        CDS_BOTH: final(profile, CDS_BOTH),
    }
    found += [
        row(run, (plan.GRID_SEED, *plan.MORE_SEEDS), name, "rematch_equal_fit", metric)
        for metric in (OUTCOME, FIT[0])
        for name, run in fitting.items()
    ]
    return found + [
        row(as_released(profile, arm), SEEDS[:3], arm, "rematch_as_released")
        for arm in (CONTROL, "baseline", "cds_released")
    ]


TABLE = Table(
    title="Rematch",
    topic="CDS against a control that sees both views, ResNet-18 on CIFAR-100",
    question="Do the contrastive losses of CDS add anything to a second view?",
    note="nothing: registered in docs/registration.md",
    build=cells,
    names={name: arm.title for name, arm in ARMS.items()}
    | {f"{CDS_BOTH}_weight_{weight:g}": f"CDS, both views, weight {weight:g}" for weight in DOSES}
    | {
        "cds_released_weight_0": "CDS as released, weight 0: both views pass batch norm, one is classified",
        "control_view1_twice": "control, view 1 drawn twice",
        "baseline_120_epochs": "baseline of 120 epochs: as many passes as the control",
        "rematch": "registered arms",
        "rematch_dose": "dose",
        "rematch_exploratory": "exploratory",
        "rematch_equal_fit": "a control that fits as well (trials of the tuning)",
        "rematch_as_released": "released schedule",
    },
    own_seeds=True,
    official=False,
)
