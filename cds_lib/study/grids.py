"""The grids behind the tables: which runs fill a cell, what is read from them, what was published for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cds_lib.study import settings
from cds_lib.study.profiles import BREADTH_SEEDS, HEADLINE_SEEDS, Seeds, seeds_of
from cds_lib.study.published import published
from cds_lib.study.spec import RunSpec

TEN_NETWORKS = (
    "resnet18",
    "resnet50",
    "resnet101",
    "resnext50_32x4d",
    "resnext101_32x8d",
    "wide_resnet50_2",
    "wide_resnet101_2",
    "seresnet18",
    "seresnet50",
    "preactresnet18",
)
FINE_GRAINED = ("cub200", "stanford_cars", "flowers102", "stanford_dogs", "fgvc_aircraft")
IMAGENET_NETWORKS = ("resnet18", "resnet34", "resnet50")
DEEP_SUPERVISION = ("baseline", "dsn", "dks", "dhm", "cds")
DISTILLATION = ("kd", "at", "rkd", "sp", "cc", "crd", "okd", "sskd", "cds_kd")
TOP1, TOP5 = "test_top1_last", "test_top5_last"
DETECTION = {"test_ap_last": "AP", "test_ap_s_last": "AP_S", "test_ap_m_last": "AP_M", "test_ap_l_last": "AP_L"}

METRICS, HISTORY = "metrics", "history"
HEADLINE = ("cifar100", "resnet18")  # of Table 1, which the analyses look at as well

CellKey = tuple[str, str, str, str]


@dataclass(frozen=True)
class Cell:
    """One number of a table: its runs (one a seed), the key that is read of each, and the published value.

    `source` is where that key is read: "metrics" is metrics.json, "history" the last row of history.csv, anything else
    the name of an analysis (`study.analyses`).

    `method` and `setting` are the row's names; a run of the last step of a row may carry others (a linear classifier on
    a network that `supcon` pre-trained). `reference` is the key of the cell it is compared with (the baseline of the
    same network), None for a baseline.
    """

    dataset: str
    model: str
    method: str
    setting: str
    metric: str
    paper: float | None
    specs: tuple[RunSpec, ...]
    reference: CellKey | None
    source: str = METRICS

    @property
    def key(self) -> CellKey:
        return (self.dataset, self.model, self.method, self.setting)


def _cell(
    key: CellKey,
    run: Callable[[int], RunSpec],
    seeds: Sequence[int],
    paper: float | None = None,
    metric: str = TOP1,
) -> Cell:
    """A cell whose reference is the baseline in its place."""
    dataset, model, method, setting = key
    reference = None if method == "baseline" else (dataset, model, "baseline", setting)
    return Cell(dataset, model, method, setting, metric, paper, tuple(run(seed) for seed in seeds), reference)


def lesson(profile: str, seeds: Seeds) -> list[Cell]:
    """The two trainings of the first notebook."""
    seeds = seeds_of(profile, seeds)[:1]
    return [
        _cell(("cifar10", "resnet18", method, "supervised"), lambda seed, m=method: settings.lesson(m, seed), seeds)
        for method in ("baseline", "cds")
    ]


def cifar(dataset: str, table_id: str | None) -> Callable[[str, Seeds], list[Cell]]:
    """Ten networks under five methods; `table_id` is the published table, if it is known."""

    def build(profile: str, seeds: Seeds) -> list[Cell]:
        return [
            _cell(
                (dataset, model, method, "supervised"),
                lambda seed, m=model, how=method: settings.supervised(profile, dataset, m, how, seed),
                seeds_of(profile, seeds, HEADLINE_SEEDS if (dataset, model) == HEADLINE else BREADTH_SEEDS),
                table_id and published(table_id, method, model),
            )
            for model in TEN_NETWORKS
            for method in DEEP_SUPERVISION
        ]

    return build


def imagenet(profile: str, seeds: Seeds) -> list[Cell]:
    """Three networks under five methods, with the max-pool of the stem and, as released, without it.

    The published numbers stand beside both: which network made them is not known.
    """
    seeds = seeds_of(profile, seeds, BREADTH_SEEDS)
    cells = []
    for setting, stem in (("supervised", None), ("supervised_no_max_pool", settings.NO_MAX_POOL)):
        for metric, prefix in ((TOP1, "top1"), (TOP5, "top5")):
            for model in IMAGENET_NETWORKS:
                for method in DEEP_SUPERVISION:
                    cells.append(
                        _cell(
                            ("imagenet", model, method, setting),
                            lambda seed, m=model, how=method, s=stem: settings.supervised(
                                profile, "imagenet", m, how, seed, s
                            ),
                            seeds,
                            published("table_3", f"{prefix}_{model}", method),
                            metric,
                        )
                    )
    return cells


def detection(profile: str, seeds: Seeds) -> list[Cell]:
    """Two detectors on backbones that five methods pre-trained, four measures each."""
    seeds = seeds_of(profile, seeds, BREADTH_SEEDS)
    return [
        _cell(
            ("coco", name, method, "detect"),
            lambda seed, n=name, how=method: settings.detector(profile, n, how, seed),
            seeds,
            published("table_4", f"{name}_{method}", column),
            metric,
        )
        for metric, column in DETECTION.items()
        for name in settings.DETECTORS
        for method in DEEP_SUPERVISION
    ]


def fine_grained(profile: str, seeds: Seeds) -> list[Cell]:
    """Five fine-grained sets, the method applied in pre-training and fine-tuning (where the published numbers stand, by
    our choice), or in one of them; the baseline is the same in all three."""
    seeds = seeds_of(profile, seeds, BREADTH_SEEDS)
    cells = []
    for dataset in FINE_GRAINED:
        for setting in settings.FINETUNING:
            for method in DEEP_SUPERVISION:
                both = setting == "finetune"
                if method == "baseline" and not both:
                    continue
                cells.append(
                    Cell(
                        dataset=dataset,
                        model="resnet50",
                        method=method,
                        setting=setting,
                        metric=TOP1,
                        paper=published("table_6", method, dataset) if both else None,
                        specs=tuple(
                            settings.finetuned(profile, dataset, "resnet50", method, setting, seed) for seed in seeds
                        ),
                        reference=None if method == "baseline" else (dataset, "resnet50", "baseline", "finetune"),
                    )
                )
    return cells


def cifar_distillation(profile: str, seeds: Seeds) -> list[Cell]:
    """ResNet-18 on CIFAR-100 (half as wide in the miniature): the baseline, CDS, and every way of distilling."""
    seeds = seeds_of(profile, seeds)
    return [_student(profile, "cifar100", "resnet18", method, seeds) for method in ("baseline", "cds", *DISTILLATION)]


def imagenet_distillation(profile: str, seeds: Seeds) -> list[Cell]:
    """Three students on ImageNet; CC, OKD and SSKD were published for ResNet-18 alone, and are run for it alone."""
    seeds = seeds_of(profile, seeds, BREADTH_SEEDS)
    cells = []
    for metric, prefix in ((TOP1, "top1"), (TOP5, "top5")):
        for model in IMAGENET_NETWORKS:
            for method in ("baseline", *DISTILLATION):
                paper = published("table_7", f"{prefix}_{model}", method)
                if paper is not None:
                    cells.append(_student(profile, "imagenet", model, method, seeds, paper, metric))
    return cells


def _student(
    profile: str,
    dataset: str,
    model: str,
    method: str,
    seeds: Sequence[int],
    paper: float | None = None,
    metric: str = TOP1,
) -> Cell:
    distilled = method in DISTILLATION
    build = settings.distilled if distilled else settings.student
    return Cell(
        dataset=dataset,
        model=model,
        method=method,
        setting="distill" if distilled else "supervised",
        metric=metric,
        paper=paper,
        specs=tuple(build(profile, dataset, model, method, seed) for seed in seeds),
        reference=None if method == "baseline" else (dataset, model, "baseline", "supervised"),
    )


# The rows of the comparison of contrastive methods, in the poster's order and under the poster's names. The form
# of its loss that SupCon's own code has came later: the printed number stands beside the first row alone.
CONTRASTIVE = {
    "baseline": "Baseline_1",
    "baseline_autoaugment": "Baseline_2",
    "supcon": "SupCon_1",
    "supcon_base_temperature": None,
    "supcon_512": "SupCon_2",
    "supcon_100_epochs": "SupCon_3",
    "byol": "BYOL",
    "byol_dsn": "BYOL_DSN",
    "cds": "Ours_1",
    "cds_kd": "Ours_2",
    "cds_autoaugment": "Ours_3",
}


def contrastive(profile: str, seeds: Seeds) -> list[Cell]:
    """ResNet-50 on ImageNet: plain, contrastive and deeply supervised trainings of different length."""
    seeds = seeds_of(profile, seeds, BREADTH_SEEDS)

    def run(row: str, seed: int) -> RunSpec:
        if row in ("baseline", "cds"):
            return settings.supervised(profile, "imagenet", "resnet50", row, seed)
        if row == "cds_kd":
            return settings.distilled(profile, "imagenet", "resnet50", row, seed)
        return settings.contrastive(profile, row, seed)

    return [
        _cell(
            ("imagenet", "resnet50", row, "supervised"),
            lambda seed, row=row: run(row, seed),
            seeds,
            name and published("contrastive_comparison", name, "top1_percent"),
        )
        for row, name in CONTRASTIVE.items()
    ]


def semi_supervised(profile: str, seeds: Seeds) -> list[Cell]:
    """Two data sets, four labelled fractions, two baselines and CDS with the SimCLR loss."""
    seeds = seeds_of(profile, seeds, HEADLINE_SEEDS)
    rows = {"baseline": "baseline", "baseline_matched": None, "cds_simclr": "cds"}  # our method -> published row
    return [
        _cell(
            (dataset, "resnet18", method, f"semi_{percent}"),
            lambda seed, d=dataset, m=method, p=percent: settings.semi_supervised(profile, d, m, p, seed),
            seeds,
            row and published(f"fig_semi_supervised_{dataset}", row, f"{percent}%"),
        )
        for dataset in ("cifar100", "cifar10")
        for percent in (10, 20, 30, 40)
        for method, row in rows.items()
    ]
