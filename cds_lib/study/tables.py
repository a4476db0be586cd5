"""The tables of the study by name: what each asks, its grid of runs, and the source of its published numbers."""

from __future__ import annotations

from cds_lib.errors import UsageError
from cds_lib.study import ablations, analysis_grids, claims, grids, published, tuning
from cds_lib.study.claims import Claim
from cds_lib.study.profiles import Seeds
from cds_lib.study.table import Table

# Not a grid of its own: every published claim of the others, with a verdict.
SUMMARY = "summary"


def published_claims(profile: str, seeds: Seeds) -> list[Claim]:
    """Every published claim that the tables test, in their order."""
    return claims.collect([table for table in TABLES.values() if table.name != SUMMARY], profile, seeds)


TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        Table(
            name="00_start_here",
            title="Start here: contrastive deep supervision in five minutes",
            question="What does contrastive deep supervision do, and what does a training with it look like?",
            source="nothing published: synthetic images",
            build=grids.lesson,
            protocol="The same in every profile: small synthetic images, a narrow network, ten epochs, one seed. It "
            "shows what a training looks like; its accuracies stand for nothing else.",
        ),
        Table(
            name="tuning",
            title="Tuning: three candidates per method, ResNet-18 on CIFAR-100, validation images",
            question="Which learning rate, and which weight of every method, does the miniature study train with?",
            source="nothing: how the paper chose its weights is not known",
            build=tuning.cells,
        ),
        Table(
            name="table1_cifar100",
            title="Table 1: CIFAR-100, ten networks, deep supervision",
            question="Does contrastive deep supervision beat the plain baseline and deep supervision with classifiers "
            "on CIFAR-100, for every one of ten networks?",
            source=published.source("table_1"),
            build=grids.cifar("cifar100", "table_1"),
        ),
        Table(
            name="table2_cifar10",
            title="Table 2: CIFAR-10, ten networks, deep supervision",
            question="Does contrastive deep supervision beat the plain baseline and deep supervision with classifiers "
            "on CIFAR-10, where accuracies are near their ceiling?",
            source="none: the paper's CIFAR-10 table is not on the poster",
            build=grids.cifar("cifar10", None),
        ),
        Table(
            name="table3_imagenet",
            title="Table 3: ImageNet, three ResNets, deep supervision, with and without the max-pool",
            question="Does contrastive deep supervision beat deep supervision with classifiers on ImageNet, and does "
            "that depend on the max-pool that the released network lacks?",
            source=published.source("table_3"),
            build=grids.imagenet,
        ),
        Table(
            name="table4_coco",
            title="Table 4: COCO detection with backbones that each method pre-trained",
            question="Does a backbone that was pre-trained with contrastive deep supervision give a better detector?",
            source=published.source("table_4"),
            build=grids.detection,
        ),
        Table(
            name="table6_finegrained",
            title="Table 6: fine-tuning on five fine-grained data sets",
            question="Does contrastive deep supervision help a network that is fine-tuned on fine-grained classes, and "
            "is it the pre-training or the fine-tuning that gains?",
            source=published.source("table_6"),
            build=grids.fine_grained,
        ),
        Table(
            name="table7_imagenet_distillation",
            title="Table 7: distillation on ImageNet, three students",
            question="Does distilled contrastive deep supervision beat eight other ways of distilling on ImageNet?",
            source=published.source("table_7"),
            build=grids.imagenet_distillation,
        ),
        Table(
            name="contrastive_methods",
            title="Contrastive methods on ImageNet: SupCon, BYOL and contrastive deep supervision",
            question="Does contrastive deep supervision reach in one training what contrastive pre-training reaches in "
            "two, and for fewer epochs?",
            source=published.source("contrastive_comparison"),
            build=grids.contrastive,
        ),
        Table(
            name="distillation_cifar100",
            title="Distillation on CIFAR-100: a ResNet-18 student",
            question="Under one protocol, does distilled contrastive deep supervision give a better student than other "
            "ways of distilling the same kind of teacher?",
            source="none: the paper's numbers for CIFAR distillation are not on the poster",
            build=grids.cifar_distillation,
        ),
        Table(
            name="semi_supervised",
            title="Semi-supervised learning on CIFAR-100 and CIFAR-10",
            question="With labels for 10 to 40 % of the training images, does contrastive deep supervision without "
            "labels on all of them beat training on the labelled ones?",
            source=" and ".join(published.source(f"fig_semi_supervised_{name}") for name in ("cifar100", "cifar10")),
            build=grids.semi_supervised,
        ),
        Table(
            name="linear_probe",
            title="Linear probes of the four stages of ResNet-18 on CIFAR-100",
            question="How much of the class can be read linearly from each stage, and does contrastive deep "
            "supervision change that?",
            source="none: no such figure is on the poster",
            build=analysis_grids.linear_probe,
        ),
        Table(
            name="layerwise_accuracy",
            title="Layer by layer: probes, transfer, invariance and similarity in ResNet-18 on CIFAR-100",
            question="Do classifiers on intermediate layers bind these to the task, and does a contrastive loss keep "
            "them general?",
            source="none: no such figure is on the poster",
            build=analysis_grids.layerwise,
        ),
        Table(
            name="calibration",
            title="Calibration of ResNet-18 on CIFAR-100",
            question="Is a network that was trained with contrastive deep supervision better calibrated?",
            source=published.source("fig_calibration_numbers"),
            build=analysis_grids.calibration,
        ),
        Table(
            name="training_loss",
            title="Training loss of ResNet-18 on CIFAR-100",
            question="Does contrastive deep supervision regularise: a higher training cross-entropy at the end, and a "
            "higher test accuracy?",
            source=published.source("fig_training_loss_end_values"),
            build=analysis_grids.training_loss,
        ),
        Table(
            name="tsne",
            title="t-SNE of the four stages of ResNet-18 on CIFAR-100",
            question="Are the classes further apart in the stages of a network that was trained with contrastive deep "
            "supervision?",
            source="none: no such figure is on the poster",
            build=analysis_grids.tsne,
        ),
        Table(
            name="deviations",
            title="Deviations: one switch at a time, CIFAR-100 and ImageNet, ResNet-18",
            question="Where the paper and its released code differ, or the code is odd, does it change the result?",
            source="none: no such ablation is on the poster",
            build=ablations.cells,
            reference="the default",
        ),
        Table(
            name=SUMMARY,
            title="Summary: every published claim and its verdict",
            question="Which of the published differences does this study confirm, which not, and which are unknown?",
            source="named with each claim",
            build=lambda profile, seeds: claims.compared_cells(published_claims(profile, seeds)),
        ),
    )
}


def find_table(name: str) -> Table:
    """The table of this name; UsageError that lists the names otherwise."""
    if name not in TABLES:
        raise UsageError(f"Unknown table {name!r}: choose from {', '.join(TABLES)}.")
    return TABLES[name]
