"""The ablations behind the table of deviations: one switch at a time, against the default run of the same seed.

Default runs are those of Table 1, Table 3 and the CIFAR distillation: only the switched ones are trained for this.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from cds_lib.study import settings
from cds_lib.study.grids import TOP1, Cell, CellKey
from cds_lib.study.profiles import BREADTH_SEEDS, HEADLINE_SEEDS, SEEDS, Seeds, seeds_of
from cds_lib.study.spec import RunSpec

CIFAR, MODEL = "cifar100", "resnet18"
_DIMENSIONS = {"resnet50": 2048, "resnet18": 512}  # of the embeddings of a teacher of full width
_DEFAULTS = ("baseline", "cds", "cds_kd")


@dataclass(frozen=True)
class Switch:
    """One change of a default run.

    row: the name in the table, in words in `naming.METHODS`; default: the method whose run is changed; deviation: the
    id in docs/deviations.md; change: the default run -> the switched one.
    """

    row: str
    default: str
    deviation: str
    change: Callable[[RunSpec], RunSpec]


def _options(**changes: Any) -> Callable[[RunSpec], RunSpec]:
    return lambda spec: replace(spec, options={**spec.options, **changes})


def _weight(factor: float) -> Callable[[RunSpec], RunSpec]:
    """lambda of every tap times a factor."""
    return lambda spec: _options(weight=round(spec.options["weight"] * factor, 6))(spec)


def _two_ce_views_with_weight(factor: float) -> Callable[[RunSpec], RunSpec]:
    """The cross-entropy of both views, and lambda of every tap times a factor."""
    return lambda spec: _options(cross_entropy_views=2)(_weight(factor)(spec))


def _cutout(on: bool) -> Callable[[RunSpec], RunSpec]:
    return lambda spec: replace(spec, budget=replace(spec.budget, cutout=on))


def _matched_mse(spec: RunSpec) -> RunSpec:
    """The mean of the squares, weighted to equal the default Frobenius term where an image's distance is 1.

    Of 2B rows of D numbers with a distance of 1 each the Frobenius norm is sqrt(2B), the mean of the squares 1 / D.
    """
    dimensions = round(_DIMENSIONS[spec.parent.model] * spec.parent.budget.width)
    weight = spec.options.get("feature_weight", 0.1) * dimensions * (2 * spec.budget.batch_size) ** 0.5
    return _options(feature_loss="mse", feature_weight=round(weight, 6))(spec)


SWITCHES = (
    Switch("baseline_two_views", "baseline", "D10", _options(views=2)),
    Switch("baseline_with_cutout", "baseline", "D15", _cutout(True)),
    Switch("baseline_without_cutout", "baseline", "D15", _cutout(False)),
    Switch("cds_with_cutout", "cds", "D15", _cutout(True)),
    Switch("cds_without_cutout", "cds", "D15", _cutout(False)),
    Switch("cds_two_ce_views", "cds", "D10", _options(cross_entropy_views=2)),
    Switch("cds_two_ce_views_weight_tenth", "cds", "D10", _two_ce_views_with_weight(1 / 10)),
    Switch("cds_three_taps", "cds", "D1", _options(taps=[1, 2, 3])),
    Switch("cds_weight_tenth", "cds", "D6", _weight(1 / 10)),
    Switch("cds_weight_third", "cds", "D6", _weight(1 / 3)),
    Switch("cds_weight_triple", "cds", "D6", _weight(3)),
    Switch("cds_temperature_0.1", "cds", "D7", _options(temperature=0.1)),
    Switch("cds_temperature_0.2", "cds", "D7", _options(temperature=0.2)),
    Switch("cds_temperature_0.5", "cds", "D7", _options(temperature=0.5)),
    Switch("cds_kd_teacher_train", "cds_kd", "D20", _options(teacher_mode="train")),
    Switch("cds_kd_mse", "cds_kd", "D8", _options(feature_loss="mse")),
    Switch("cds_kd_mse_matched", "cds_kd", "D8", _matched_mse),
)


def default_run(profile: str, method: str, seed: int) -> RunSpec:
    """The run that switches change: on CIFAR-100, as in the tables that have it."""
    build = settings.distilled if method == "cds_kd" else settings.supervised
    return build(profile, CIFAR, MODEL, method, seed)


def cells(profile: str, seeds: Seeds) -> list[Cell]:
    """Each default followed by its switches, then ImageNet with and without the max-pool. A default has no reference,
    and a switch that is the profile's default has no row."""
    found = []
    for default in _DEFAULTS:
        own = SEEDS if default == "cds_kd" else HEADLINE_SEEDS
        runs = [default_run(profile, default, seed) for seed in seeds_of(profile, seeds, own)]
        setting = runs[0].setting
        reference = (CIFAR, MODEL, default, setting)
        found.append(_cell(reference, runs, None))
        for switch in (switch for switch in SWITCHES if switch.default == default):
            # The control of two views stands beside the verdicts of Table 1, and has as many seeds.
            own = seeds_of(profile, seeds, HEADLINE_SEEDS if switch.deviation == "D10" else SEEDS)
            changed = [run for run in runs if run.seed in own]
            switched = [switch.change(run) for run in changed]
            if switched != changed:
                found.append(_cell((CIFAR, MODEL, switch.row, setting), switched, reference))
    for setting, stem in (("supervised", None), ("supervised_no_max_pool", settings.NO_MAX_POOL)):
        for method in ("baseline", "cds"):
            on_imagenet = seeds_of(profile, seeds, BREADTH_SEEDS)
            runs = [settings.supervised(profile, "imagenet", MODEL, method, seed, stem) for seed in on_imagenet]
            reference = ("imagenet", MODEL, method, "supervised") if stem else None
            found.append(_cell(("imagenet", MODEL, method, setting), runs, reference))
    return found


def _cell(key: CellKey, runs: list[RunSpec], reference: CellKey | None) -> Cell:
    """No published number of a switch is known."""
    return Cell(*key, metric=TOP1, paper=None, specs=tuple(runs), reference=reference)
