"""The ablations behind the table of deviations: one switch at a time, against the default run of the same seed.

Default runs are those of Table 1, Table 3 and the CIFAR distillation; only the switched runs are trained for this.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from cds_lib.study.plan import settings
from cds_lib.study.plan.protocols import BREADTH_SEEDS, HEADLINE_SEEDS, SEEDS
from cds_lib.study.plan.spec import RunSpec
from cds_lib.study.plan.table import Cell, Table, cell

CIFAR, MODEL = "cifar100", "resnet18"
_DIMENSIONS = {"resnet50": 2048, "resnet18": 512}  # of a full-width teacher's embeddings
_DEFAULTS = ("baseline", "cds", "cds_kd")


@dataclass(frozen=True)
class Switch:
    """One change of a default run.

    row: name in the table; title: display name; default: the method whose run is changed; deviation: id in the tables
    of docs/deviations.md; change: the default run -> the switched run.
    """

    row: str
    title: str
    default: str
    deviation: str
    change: Callable[[RunSpec], RunSpec]


def _options(**changes: Any) -> Callable[[RunSpec], RunSpec]:
    return lambda spec: replace(spec, options={**spec.options, **changes})


def _weight(factor: float, **changes: Any) -> Callable[[RunSpec], RunSpec]:
    """Multiply the weight (lambda) of every tap by a factor, and change other options."""
    return lambda spec: _options(weight=round(spec.options["weight"] * factor, 6), **changes)(spec)


def _cutout(on: bool) -> Callable[[RunSpec], RunSpec]:
    return lambda spec: replace(spec, budget=replace(spec.budget, cutout=on))


def _matched_mse(spec: RunSpec) -> RunSpec:
    """Use the mean square, weighted to equal the default Frobenius term where every image's distance is 1.

    For 2B rows of D numbers with a distance of 1 each, the Frobenius norm is sqrt(2B) and the mean square is 1 / D.
    """
    dimensions = round(_DIMENSIONS[spec.parent.model] * spec.parent.budget.width)
    weight = spec.options.get("feature_weight", 0.1) * dimensions * (2 * spec.budget.batch_size) ** 0.5
    return _options(feature_loss="mse", feature_weight=round(weight, 6))(spec)


SWITCHES = (
    Switch("baseline_two_views", "baseline, cross-entropy of two views", "baseline", "D10", _options(views=2)),
    Switch("baseline_with_cutout", "baseline, with Cutout", "baseline", "D15", _cutout(True)),
    Switch("baseline_without_cutout", "baseline, without Cutout", "baseline", "D15", _cutout(False)),
    Switch("cds_with_cutout", "CDS, with Cutout", "cds", "D15", _cutout(True)),
    Switch("cds_without_cutout", "CDS, without Cutout", "cds", "D15", _cutout(False)),
    Switch("cds_two_ce_views", "CDS, cross-entropy of both views", "cds", "D10", _options(cross_entropy_views=2)),
    Switch(
        "cds_two_ce_views_weight_tenth",
        "CDS, cross-entropy of both views, weight × 1/10",
        "cds",
        "D10",
        _weight(1 / 10, cross_entropy_views=2),
    ),
    Switch("cds_three_taps", "CDS, taps 1 to 3", "cds", "D1", _options(taps=[1, 2, 3])),
    Switch("cds_weight_tenth", "CDS, weight × 1/10", "cds", "D6", _weight(1 / 10)),
    Switch("cds_weight_third", "CDS, weight × 1/3", "cds", "D6", _weight(1 / 3)),
    Switch("cds_weight_triple", "CDS, weight × 3", "cds", "D6", _weight(3)),
    Switch("cds_temperature_0.1", "CDS, temperature 0.1", "cds", "D7", _options(temperature=0.1)),
    Switch("cds_temperature_0.2", "CDS, temperature 0.2", "cds", "D7", _options(temperature=0.2)),
    Switch("cds_temperature_0.5", "CDS, temperature 0.5", "cds", "D7", _options(temperature=0.5)),
    Switch(
        "cds_kd_teacher_train", "CDS, distilled, teacher in train mode", "cds_kd", "D20", _options(teacher_mode="train")
    ),
    Switch("cds_kd_mse", "CDS, distilled, mean square, same weight", "cds_kd", "D8", _options(feature_loss="mse")),
    Switch("cds_kd_mse_matched", "CDS, distilled, mean square, matched weight", "cds_kd", "D8", _matched_mse),
)


def default_run(profile: str, method: str, seed: int = 0) -> RunSpec:
    """Return the run that switches change: on CIFAR-100, as in the tables that contain it."""
    build = settings.distilled if method == "cds_kd" else settings.supervised
    return build(profile, CIFAR, MODEL, method, seed)


def cells(profile: str) -> list[Cell]:
    """Return each default followed by its switches, then ImageNet with and without the max-pool. A default has no
    reference. A switch that the profile already has by default has no row."""
    found = []
    for default in _DEFAULTS:
        run = default_run(profile, default)
        own = SEEDS[profile] if default == "cds_kd" else HEADLINE_SEEDS[profile]
        found.append(cell(run, own, reference=None))
        for switch in SWITCHES:
            if switch.default == default and (switched := switch.change(run)) != run:
                # Rows with the cross-entropy of two views stand beside the verdicts of Table 1 and have as many seeds.
                seeds = HEADLINE_SEEDS[profile] if switch.deviation == "D10" else SEEDS[profile]
                found.append(cell(switched, seeds, method=switch.row, reference=default))
    for setting, stem in (("supervised", None), ("supervised_no_max_pool", settings.NO_MAX_POOL)):
        for method in ("baseline", "cds"):
            run = settings.supervised(profile, "imagenet", MODEL, method, stem=stem)
            reference = ("imagenet", MODEL, method, "supervised") if stem else None
            found.append(cell(run, BREADTH_SEEDS[profile], setting=setting, reference=reference))
    return found


TABLE = Table(
    title="Deviations",
    topic="one switch at a time, CIFAR-100 and ImageNet, ResNet-18",
    question="Where the paper and its released code differ, or the code is odd, does it change the result?",
    unpublished="no such ablation is on the poster",
    build=cells,
    names={switch.row: switch.title for switch in SWITCHES},
)
