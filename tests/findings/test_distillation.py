"""The pages of distillation: teachers beside their students, and methods whose own term is in the way."""

from bs4 import BeautifulSoup

from cds_lib.findings import distillation
from cds_lib.reporting import views
from cds_lib.session import open_study
from cds_lib.study import settings
from run_folders import top1, write_run


def items(html):
    return [item.get_text() for item in BeautifulSoup(html.data, "html.parser").find_all("li")]


def finish(study, spec, accuracy):
    write_run(study.store, spec, top1(accuracy))


def test_teachers_are_set_beside_their_students_and_weak_ones_are_named(tmp_path):
    study = open_study("distillation_cifar100", profile="mini", results=str(tmp_path), seeds="0,1")

    assert items(distillation.teachers(study)) == [
        "Teacher ResNet-18 × 0.25 (baseline) not run, student alone ResNet-18 × 0.125 (baseline) not run.",
        "Teacher ResNet-18 × 0.25 (CDS) not run, student alone ResNet-18 × 0.125 (baseline) not run.",
    ]
    for seed, accuracy in ((0, 30.0), (1, 31.0)):
        finish(study, settings.student("mini", "cifar100", "resnet18", "baseline", seed), accuracy)
    finish(study, settings.supervised("mini", "cifar100", "resnet18", "baseline", 0), 29.25)
    finish(study, settings.supervised("mini", "cifar100", "resnet18", "cds", 1), 30.75)
    weak, strong = items(distillation.teachers(study))
    assert weak.startswith(
        "Teacher ResNet-18 × 0.25 (baseline) 29.25 % (n = 1), "
        "student alone ResNet-18 × 0.125 (baseline) 30.50 % (n = 2)"
    )
    assert weak.endswith(": no better than its student, which has little to learn from it.")
    assert strong == (
        "Teacher ResNet-18 × 0.25 (CDS) 30.75 % (n = 1), student alone ResNet-18 × 0.125 (baseline) 30.50 % (n = 2)."
    )


def test_the_student_alone_is_in_the_panel_of_the_methods(tmp_path):
    study = open_study("distillation_cifar100", profile="mini", results=str(tmp_path), seeds="0")
    for spec in (
        settings.student("mini", "cifar100", "resnet18", "baseline", 0),
        settings.distilled("mini", "cifar100", "resnet18", "kd", 0),
    ):
        write_run(study.store, spec, top1(20.0) | {"epochs": 2}, history="epoch,test_top1\n1,10.0\n2,20.0\n")
    assert views.accuracy_curves(study).data.count('id="axes_') == 1


def run(method, seed):
    """The run of a row of the table."""
    build = settings.student if method in ("baseline", "cds") else settings.distilled
    return build("mini", "cifar100", "resnet18", method, seed)


def test_distilled_cds_is_set_against_every_other_row(tmp_path):
    study = open_study("distillation_cifar100", profile="mini", results=str(tmp_path), seeds="0,1,2")
    for seed, spread in enumerate((0.0, 0.1, 0.2)):
        finish(study, run("cds_kd", seed), 25.0 + seed + spread)
        finish(study, run("kd", seed), 24.0 + seed)
        finish(study, run("at", seed), 26.0 + seed)
        finish(study, run("sskd", seed), 25.1 + seed)
        finish(study, run("cds", seed), 22.0 + seed)
        finish(study, run("cds_kd", seed).parent, 31.0)
        finish(study, run("kd", seed).parent, 29.0)
    others, alone, recipe = items(distillation.against_others(study))
    assert others.startswith(
        "CDS, distilled, minus each of the other distillers: KD +1.10 [+0.85, +1.35] (n = 3), AT −0.90 [−1.15, −0.65] "
        "(n = 3), SSKD 0.00 [−0.25, +0.25] (n = 3). Of the 3 with seeds enough it is above 1, below 1 and not told "
    )
    assert "not told apart from 1 (SSKD)" in others
    assert alone.endswith(
        "CDS without a teacher: +3.10 [+2.85, +3.35] (n = 3): with a teacher, and its own loss weights, CDS is above."
    )
    assert recipe.endswith(
        "sees two views of every image, and its teacher was itself trained with CDS, which differs from the teacher of "
        "the others by +2.00 [+2.00, +2.00] points (n = 3)."
    )


def test_distilled_cds_of_few_seeds_decides_nothing_and_of_none_says_nothing(tmp_path):
    study = open_study("distillation_cifar100", profile="mini", results=str(tmp_path), seeds="0")
    assert items(distillation.against_others(study)) == []
    finish(study, run("kd", 0), 24.0)
    assert items(distillation.against_others(study)) == []
    finish(study, run("cds_kd", 0), 25.0)
    others, recipe = items(distillation.against_others(study))
    assert others.endswith("KD +1.00 (n = 1). Fewer than 3 seeds decide nothing.")
    assert recipe.endswith("and its teacher was itself trained with CDS.")
    smoke = open_study("distillation_cifar100", profile="smoke", results=str(tmp_path))
    assert items(distillation.against_others(smoke)) == []


def test_who_is_below_the_student_alone_and_fits_less_well_is_named(tmp_path):
    study = open_study("distillation_cifar100", profile="mini", results=str(tmp_path), seeds="0,1")

    def finished(spec, accuracy, cross_entropy):
        history = f"epoch,train_cross_entropy\n1,4.5\n2,{cross_entropy}\n"
        write_run(study.store, spec, top1(accuracy) | {"epochs": 2}, history=history)

    assert distillation.held_back(study).data == ""
    for seed in (0, 1):
        finished(settings.student("mini", "cifar100", "resnet18", "baseline", seed), 20.0 + seed, 2.0 + seed)
    runs = {"sp": (12.0, 3.5), "at": (19.0, 1.5), "rkd": (22.0, 3.5), "kd": (12.0, 3.5)}  # kd weighs its cross-entropy
    for method, (accuracy, cross_entropy) in runs.items():
        finished(settings.distilled("mini", "cifar100", "resnet18", method, 0), accuracy, cross_entropy)
    (only,) = items(distillation.held_back(study))
    assert only == "ResNet-18, SP: −8.00 points, training cross-entropy 3.50 against 2.00 (n = 1)."
    assert "Less accurate than the student alone" in distillation.held_back(study).data
