"""The tables of the paper as grids of runs: which runs fill a cell, how it is read, and what was published for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cds_lib.errors import UsageError
from cds_lib.study import profiles, published
from cds_lib.study.spec import RunSpec

TABLE1_MODELS = (
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
TABLE1_METHODS = ("baseline", "dsn", "dks", "dhm", "cds")

CellKey = tuple[str, str, str, str]


@dataclass(frozen=True)
class Cell:
    """One number of a table: its runs (one a seed), the key read from metrics.json, and the published value in percent.

    `reference` is the key of the cell it is compared with (the baseline of the same network), None for a baseline.
    """

    dataset: str
    model: str
    method: str
    setting: str
    metric: str
    paper: float | None
    specs: tuple[RunSpec, ...]
    reference: CellKey | None

    @property
    def key(self) -> CellKey:
        return (self.dataset, self.model, self.method, self.setting)


@dataclass(frozen=True)
class Table:
    """A grid of runs with a name, the question it answers, and the source of its published numbers."""

    name: str
    title: str
    question: str
    source: str
    build: Callable[[str, tuple[int, ...]], list[Cell]]

    def cells(self, profile: str, seeds: tuple[int, ...]) -> list[Cell]:
        """All cells under a profile, in print order; UsageError for an unknown profile."""
        return self.build(profiles.check_profile(profile), seeds)

    def runs(self, profile: str, seeds: tuple[int, ...]) -> list[RunSpec]:
        """All runs of the table, each once, parents before children, seed by seed so that cells fill early."""
        cells = self.cells(profile, seeds)
        leaves = [spec for i in range(len(seeds)) for cell in cells for spec in cell.specs[i : i + 1]]
        return list({spec.id: spec for leaf in leaves for spec in leaf.lineage}.values())


def _table1(profile: str, seeds: tuple[int, ...]) -> list[Cell]:
    return [
        Cell(
            dataset="cifar100",
            model=model,
            method=method,
            setting="supervised",
            metric="test_top1_last",
            paper=published.published("table_1", method, model),
            specs=tuple(profiles.supervised(profile, "cifar100", model, method, seed) for seed in seeds),
            reference=None if method == "baseline" else ("cifar100", model, "baseline", "supervised"),
        )
        for model in TABLE1_MODELS
        for method in TABLE1_METHODS
    ]


def _lesson(profile: str, seeds: tuple[int, ...]) -> list[Cell]:
    baseline = ("cifar10", "resnet18", "baseline", "supervised")
    return [
        Cell(
            *baseline[:2], method, "supervised", "test_top1_last", None, (profiles.lesson(method, seeds[0]),), reference
        )
        for method, reference in (("baseline", None), ("cds", baseline))
    ]


DISTILLATION_METHODS = ("kd", "at", "rkd", "sp", "cc", "crd", "okd", "sskd", "cds_kd")


def _distillation(profile: str, seeds: tuple[int, ...]) -> list[Cell]:
    def cell(method: str, specs: tuple[RunSpec, ...]) -> Cell:
        baseline = ("cifar100", "resnet18", "baseline", "supervised")
        reference = None if method == "baseline" else baseline
        return Cell("cifar100", "resnet18", method, specs[0].setting, "test_top1_last", None, specs, reference)

    return [
        *(
            cell(method, tuple(profiles.supervised(profile, "cifar100", "resnet18", method, seed) for seed in seeds))
            for method in ("baseline", "cds")
        ),
        *(
            cell(method, tuple(profiles.distilled(profile, "cifar100", method, seed) for seed in seeds))
            for method in DISTILLATION_METHODS
        ),
    ]


def _semi_supervised(profile: str, seeds: tuple[int, ...]) -> list[Cell]:
    rows = {"baseline": "baseline", "baseline_matched": None, "cds_simclr": "cds"}  # our method -> published row
    cells = []
    for dataset in ("cifar100", "cifar10"):
        for percent in (10, 20, 30, 40):
            for method, row in rows.items():
                specs = (profiles.semi_supervised(profile, dataset, method, percent, seed) for seed in seeds)
                setting = f"semi_{percent}"
                cells.append(
                    Cell(
                        dataset=dataset,
                        model="resnet18",
                        method=method,
                        setting=setting,
                        metric="test_top1_last",
                        paper=row and published.published(f"fig_semi_supervised_{dataset}", row, f"{percent}%"),
                        specs=tuple(specs),
                        reference=None if method == "baseline" else (dataset, "resnet18", "baseline", setting),
                    )
                )
    return cells


TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        Table(
            name="00_start_here",
            title="Start here: contrastive deep supervision in five minutes",
            question="What does contrastive deep supervision do, and what does a training with it look like?",
            source="nothing published: made images",
            build=_lesson,
        ),
        Table(
            name="table1_cifar100",
            title="Table 1: CIFAR-100, ten networks, deep supervision",
            question="Does contrastive deep supervision beat the plain baseline and deep supervision with classifiers "
            "on CIFAR-100, for every one of ten networks?",
            source=published.source("table_1"),
            build=_table1,
        ),
        Table(
            name="distillation_cifar100",
            title="Distillation on CIFAR-100: a ResNet-18 student of a ResNet-50 teacher",
            question="Under one protocol, does distilled contrastive deep supervision give a better student than other "
            "ways of distilling the same kind of teacher?",
            source="none: the paper's numbers for CIFAR distillation are not on the poster",
            build=_distillation,
        ),
        Table(
            name="semi_supervised",
            title="Semi-supervised learning on CIFAR-100 and CIFAR-10",
            question="With labels for 10 to 40 % of the training images, does contrastive deep supervision without "
            "labels on all of them beat training on the labelled ones?",
            source=published.source("fig_semi_supervised_cifar100"),
            build=_semi_supervised,
        ),
    )
}


def find_table(name: str) -> Table:
    """The table of this name; UsageError that lists the names otherwise."""
    if name not in TABLES:
        raise UsageError(f"Unknown table {name!r}: choose from {', '.join(TABLES)}.")
    return TABLES[name]
