"""docs/deviations.md says what the code does: every quoted default is read from the code here; links lead somewhere."""

import inspect
import re
from pathlib import Path

import pytest

from cds_lib.data import augment
from cds_lib.losses import supcon_loss
from cds_lib.methods import ContrastiveDeepSupervision, DeeplySupervisedNet
from cds_lib.models import projection_heads
from cds_lib.study import formats, profiles, report, settings
from cds_lib.study.tables import TABLES

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "deviations.md").read_text(encoding="utf-8")
# What the study lacks, and the tables that would bring it.
NOT_YET = {
    "ImageNet": {"table3_imagenet", "table7_imagenet_distillation", "contrastive_methods"},
    "detection": {"table4_coco"},
}


def rows(section: str) -> list[list[str]]:
    """The cells of the table below a heading, without its first two lines."""
    lines = [line for line in PAGE.split(f"## {section}\n")[1].split("\n## ")[0].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


DEVIATIONS = rows("Where the sources differ, or look odd")
CHOICES = rows("Choices of ours that neither source decides")


def ours(name: str) -> str:
    """What the page says the study does, of a deviation by its id or of a choice by its name."""
    found = [row[3] for row in DEVIATIONS if row[0] == name] + [row[1] for row in CHOICES if row[0] == name]
    assert len(found) == 1, (name, found)
    return found[0]


def spec(profile, method="cds"):
    return settings.supervised(profile, "cifar100", "resnet18", method, 0)


def default(function, name):
    return inspect.signature(function).parameters[name].default


def listed(values) -> str:
    return ", ".join(map(str, values))


def test_every_deviation_is_there_once_and_in_order():
    assert [row[0] for row in DEVIATIONS] == [f"D{number}" for number in range(1, 32)]
    for row in DEVIATIONS:
        assert len(row) == 5 and all(row), row
    for row in CHOICES:
        assert len(row) == 3 and all(row), row


def test_the_page_names_the_tables_and_methods_of_the_study():
    tables, methods = re.search(r"Tables: (.+?)\.\nMethods: (.+?)\.\n", PAGE, re.DOTALL).groups()
    assert set(re.findall(r"`(\w+)`", tables)) == set(TABLES), (
        "a table is new or gone: correct what the page says of it"
    )
    trained = {run.method for table in TABLES.values() for run in table.runs("smoke", (0,))}
    assert set(re.findall(r"`(\w+)`", methods)) == trained
    assert ("In no table yet" in ours("DKS and DHM branches")) == trained.isdisjoint({"dks", "dhm"})


@pytest.mark.parametrize("part", NOT_YET)
def test_what_is_not_part_of_the_study_yet_is_not(part):
    says_so = f"not part of the study yet ({part})" in PAGE.replace("Not part", "not part")
    assert says_so == (not NOT_YET[part] & TABLES.keys())


def test_every_not_yet_is_one_of_these():
    assert set(re.findall(r"[Nn]ot part of the study yet \((.+?)\)", PAGE)) == NOT_YET.keys()
    assert len(re.findall(r"[Nn]ot part of the study yet", PAGE)) == len(re.findall(r"study yet \(", PAGE))


def test_the_defaults_of_the_method():
    paper, smoke, mini = (spec(profile).options for profile in ("paper", "smoke", "mini"))
    first_notebook = settings.lesson("cds", 0).options
    assert f"taps {listed(paper['taps'])}" in ours("D1")
    assert f"{paper['weight']:g} a stage (`paper`, `smoke`); {mini['weight']:g} in `mini`" in ours("D6")
    assert "`cds` and `cds_simclr` are two methods" in ours("D17")
    assert ours("D7").startswith(f"{paper['temperature']:g}.")
    assert smoke == paper and mini == first_notebook == {**paper, "weight": mini["weight"]}
    assert spec("paper", "cds_simclr").options == paper
    library = {name: default(ContrastiveDeepSupervision, name) for name in paper}
    assert {**library, "taps": list(library["taps"])} == paper
    assert default(ContrastiveDeepSupervision, "use_labels") is True
    assert default(supcon_loss, "temperature") == paper["temperature"]
    units = [len(head.units) for head in projection_heads([8, 8, 8], 8)]
    assert "{}, {} and {} separable-convolution units".format(*units) in ours("D5")


def test_the_defaults_of_dsn():
    weights = {spec(profile, "dsn").options["weight"] for profile in profiles.PROFILES}
    assert weights == {default(DeeplySupervisedNet, "weight")}
    assert f"weight {weights.pop():g} each, in every profile" in ours("DSN head and weight")


def test_the_defaults_of_the_full_protocol():
    budget = spec("paper").budget
    assert budget.schedule == "step" and budget.warmup_epochs == 0 and budget.cutout and budget.train_size is None
    assert "is {}, {} and {} of {}.".format(*budget.milestones, budget.epochs) in ours("D16")
    assert f"{budget.weight_decay:g} on all" in ours("D14")
    seeds = profiles.SEEDS
    assert f"Seeds {listed(seeds['paper'])} (`smoke`: {listed(seeds['smoke'])})" in ours("D12")
    assert seeds["mini"] == seeds["paper"]
    side = budget.image_size
    full = f"`paper`: {side}x{side}, all images, batch {budget.batch_size}, lr {budget.lr:g}"
    assert full in ours("Miniature protocol")
    assert (budget.precision, spec("mini").budget.precision, spec("smoke").budget.precision) == ("amp", "fp32", "fp32")
    assert "`paper`: on" in ours("Mixed precision") and "`mini`, `smoke`: off" in ours("Mixed precision")


def test_the_defaults_of_the_miniature():
    run = spec("mini")
    budget, says = run.budget, ours("Miniature protocol")
    assert (budget.schedule, budget.cutout) == ("cosine", False)
    for text in (
        f"{budget.image_size}x{budget.image_size} pixels",
        f"{budget.train_size:,} class-balanced training images",
        f"{budget.val_size:,} held out",
        f"{budget.epochs} epochs, batch {budget.batch_size}, lr {budget.lr:g} with {budget.warmup_epochs} epoch of",
        f"weight {run.options['weight']:g} a tap, no Cutout",
        f"tested every {budget.eval_every} epochs",
    ):
        assert text in says, text
    networks = {spec.model: spec.budget.width for spec in TABLES["table1_cifar100"].runs("mini", (0,))}
    smallest, largest = min(networks.values()), max(networks.values())
    assert f"width {networks['resnet18']:g} for resnet18 and {smallest:g} to {largest:g} for the others" in says
    assert {10: "ten"}[len(networks)] in ours("D31") and "resnet34" not in networks


def test_the_constants_of_the_augmentation():
    says = ours("D13")
    assert f"padding {augment.GREY_PADDING} and {augment.BLACK_PADDING}" in says
    for name, values in (("means", augment.CIFAR_MEAN), ("deviations", augment.CIFAR_STD)):
        assert f"{name} ({', '.join(f'{value:.4f}' for value in values)})" in says
    side = spec("paper").budget.image_size
    assert f"{side // 8} and {side // 2} at {side}x{side}" in says


@pytest.mark.parametrize("page", ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))])
def test_relative_links_and_named_files_exist(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        if not re.match(r"[a-z]+:", target):
            assert ((ROOT / page).parent / target).exists(), target
    for path in re.findall(r"`(cds_lib/[\w./]+)`", text):
        assert (ROOT / path).exists(), path


def test_the_numbers_of_the_readme_are_those_of_the_committed_results():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    frame = report.read_table("table1_cifar100", ROOT / "results" / "mini")
    measured = frame[frame["n"] > 0]
    assert len(measured) > 0
    for _, row in measured.iterrows():
        texts = formats.cells(row)
        expected = [formats.method_name(row["method"]), texts[formats.HEADINGS[1]]]
        if row["method"] != "baseline":
            expected += [texts[heading] for heading in formats.HEADINGS[3:6]]
        assert "| " + " | ".join(expected) + " |" in readme
        for run in row["runs"].split():
            assert (ROOT / "results" / "mini" / "runs" / run / "metrics.json").exists()
