"""Deviations and choices are what the code does: every quoted default is read from the code; links lead somewhere."""

import inspect
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cds_lib.augment import pixels, views
from cds_lib.losses import supcon_loss
from cds_lib.methods import ContrastiveDeepSupervision, DeeplySupervisedNet, DistilledCDS
from cds_lib.methods.supcon import SupervisedContrastive
from cds_lib.models import create_backbone, projection_heads
from cds_lib.study import costs, protocols, settings
from cds_lib.study.commands import dry_run
from cds_lib.study.data import registry
from cds_lib.study.tables import TABLES, deviations, official
from cds_lib.study.tables.contrastive_methods import contrastive
from cds_lib.study.tables.table4_coco import detector

BEYOND_CIFAR = ("imagenet", "finetune", "detection")
ROOT = Path(__file__).resolve().parent.parent
MINIATURE = " ".join((ROOT / "docs" / "miniature.md").read_text(encoding="utf-8").split())  # without line breaks


def rows(*pages: str) -> list[list[str]]:
    """The cells of the one table of each page, without its first two lines."""
    found = []
    for page in pages:
        lines = [line for line in (ROOT / "docs" / page).read_text("utf-8").splitlines() if line.startswith("|")]
        found += [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    return found


DEVIATIONS = rows("deviations.md", "deviations_training.md")
CHOICES = rows("choices.md", "choices_imagenet.md")


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


def test_every_deviation_is_there_once():
    assert sorted((row[0] for row in DEVIATIONS), key=lambda name: int(name[1:])) == [f"D{n}" for n in range(1, 32)]
    for row in DEVIATIONS:
        assert len(row) == 5 and all(row), row
    for row in CHOICES:
        assert len(row) == 3 and all(row), row


def test_the_rows_that_say_so_are_measured():
    said = {row[0] for row in DEVIATIONS if "Measured" in row[4]}
    # What is no switch: the last and the best epoch are columns of every table, the max-pool has runs of Table 3.
    assert said == {switch.deviation for switch in deviations.SWITCHES} | {"D12", "D21"}


def test_no_page_is_long_but_the_register_which_only_grows():
    pages = {path.name: len(path.read_text("utf-8").split()) for path in (ROOT / "docs").glob("*.md")}
    pages.pop("registration.md")
    assert {name: words for name, words in pages.items() if words > 1000} == {}
    readme = re.sub(r"<!--.*?-->", "", (ROOT / "README.md").read_text("utf-8"), flags=re.S)
    assert len(readme.split()) < 1200


def test_the_defaults_of_the_method():
    paper, smoke, mini = (spec(profile).options for profile in ("paper", "smoke", "mini"))
    first_notebook = TABLES["00_start_here"].runs("smoke", None)[1].options
    assert f"taps {listed(paper['taps'])}" in ours("D1")
    elsewhere = settings.supervised("mini", "imagenet", "resnet18", "cds", 0).options
    unlabelled = settings.semi_supervised("mini", "cifar10", "cds_simclr", 10, 0).options["weight"]
    distilled_weight = settings.distilled("mini", "cifar100", "resnet18", "cds_kd", 0).options["weight"]
    assert distilled_weight == elsewhere["weight"] == first_notebook["weight"]
    untuned = f"{elsewhere['weight']:g}"
    said = (
        f"in `mini` on CIFAR {mini['weight']:g} for `cds` and {unlabelled:g} for `cds_simclr`, "
        f"{untuned} for `cds_kd` and off CIFAR"
    )
    assert f"{paper['weight']:g} a stage (`paper`, `smoke`); {said}; {untuned} in the first" in ours("D6")
    assert "`cds` and `cds_simclr` are two methods" in ours("D17")
    distilled = {
        set_: settings.distilled("paper", set_, "resnet18", "cds_kd", 0).options for set_ in ("cifar100", "imagenet")
    }
    assert f"Distilled CDS on ImageNet: {distilled['imagenet']['weight']:g} as released" in ours("D6")
    softened = [options.get("temperature", default(DistilledCDS, "temperature")) for options in distilled.values()]
    assert ours("D7").startswith(
        f"{paper['temperature']:g}. Distilled CDS: {softened[0]:g} on CIFAR, {softened[1]:g} on ImageNet"
    )
    assert smoke == paper and mini == {**paper, "weight": mini["weight"]}
    assert elsewhere == first_notebook == {**paper, "weight": elsewhere["weight"]}
    assert spec("paper", "cds_simclr").options == paper
    library = {name: default(ContrastiveDeepSupervision, name) for name in paper}
    assert library.pop("taps") is None  # all four of the study's networks
    assert library == {name: value for name, value in paper.items() if name != "taps"}
    assert paper["taps"] == list(ContrastiveDeepSupervision(create_backbone("resnet18", 2, width=0.0625), 2).taps)
    assert default(ContrastiveDeepSupervision, "use_labels") is True
    assert default(supcon_loss, "temperature") == paper["temperature"]
    units = [len(head.units) for head in projection_heads([8, 8, 8], 8)]
    assert "{}, {} and {} separable-convolution units".format(*units) in ours("D5")


def test_the_defaults_of_dsn():
    weights = {profile: spec(profile, "dsn").options["weight"] for profile in protocols.PROFILES}
    assert weights["paper"] == weights["smoke"] == default(DeeplySupervisedNet, "weight")
    says = f"weight {weights['paper']:g} each (`mini` on CIFAR: {weights['mini']:g}, chosen on validation images)"
    assert says in ours("DSN head and weight")


def test_the_defaults_of_dks_and_dhm():
    weights = {name: spec("mini", name).options["weight"] for name in ("dks", "dhm")}
    assert spec("paper", "dks").options["weight"] == spec("paper", "dhm").options["weight"] == 1
    says = f"`mini` on CIFAR: {weights['dks']:g} for DKS, {weights['dhm']:g} for DHM, chosen on validation images"
    assert says in ours("DKS and DHM branches")


def test_the_defaults_of_the_full_protocol():
    budget = spec("paper").budget
    assert budget.schedule == "step" and budget.warmup_epochs == 0 and budget.cutout and budget.train_size is None
    assert "is {}, {} and {} of {}.".format(*budget.milestones, budget.epochs) in ours("D16")
    assert f"{budget.weight_decay:g} on all" in ours("D14")
    seeds = protocols.SEEDS
    headline, breadth = protocols.HEADLINE_SEEDS["mini"], protocols.BREADTH_SEEDS["mini"]
    assert (
        f"Seeds {headline[0]} to {headline[-1]} for ResNet-18 in Table 1, its controls of two views (D10), the "
        "analyses and semi-supervised learning, "
        f"{listed(seeds['paper'])} for all else (`smoke`: {listed(seeds['smoke'])}; in `mini` "
        f"{listed(breadth)} for other" in ours("D12")
    )
    assert seeds["mini"] == seeds["paper"] and headline == protocols.HEADLINE_SEEDS["paper"]
    side = budget.image_size
    full = f"`paper`: {side}x{side}, all images, batch {budget.batch_size}, lr {budget.lr:g}"
    assert full in ours("Miniature protocol")
    assert (budget.precision, spec("mini").budget.precision, spec("smoke").budget.precision) == ("amp", "fp32", "fp32")
    assert "`paper`: on" in ours("Mixed precision") and "`mini`, `smoke`: off" in ours("Mixed precision")


def test_the_defaults_of_the_miniature():
    run = spec("mini")
    budget, says = run.budget, MINIATURE
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


def test_the_defaults_beyond_cifar():
    def steps(budget):
        return f"after {' and '.join(map(str, budget.milestones))}"

    imagenet, tuning, detection = (protocols.budget("paper", kind, "resnet50") for kind in BEYOND_CIFAR)
    says = ours("ImageNet")
    assert f"{imagenet.epochs} epochs, batch {imagenet.batch_size}, lr {imagenet.lr:g} divided by 10" in says
    assert f"every {imagenet.milestones[0]} epochs, weight decay {imagenet.weight_decay:g}" in says
    assert (
        imagenet.milestones == (30, 60) and f"short side {imagenet.stored_size}, centre {imagenet.image_size}" in says
    )
    view1, view2 = views.AUGMENTATIONS[imagenet.augmentation]
    assert f"{100 * view1.scale:g} to 100 % of the area" in says and f"{100 * view2.scale:g} to 100 %, flip, j" in says
    says = ours("Fine-tuning (Table 6)")
    assert f"SGD {tuning.lr:g}, {({10: 'ten'})[tuning.new_lr_factor]} times that for what is new" in says
    assert f"{tuning.epochs} epochs of batch {tuning.batch_size}, lr / 10 {steps(tuning)}; images of" in says
    says = ours("Detection (Table 4)")
    retina = detector("paper", "retinanet", "baseline", 0).budget
    assert (
        f"{detection.epochs} epochs of batch {detection.batch_size}, SGD {detection.lr:g} (RetinaNet {retina.lr:g})"
        in says
    )
    assert (
        f"lr / 10 {steps(detection)}, {detection.warmup_steps} steps of warm-up, short side {detection.image_size}, "
        f"gradients clipped to a norm of {detection.clip_norm:g} (" in says
    )
    flowers = registry.entry("flowers102")
    assert f"{flowers.train:,} images" in ours("Flowers-102")


def test_the_teachers_of_table_7_and_the_contrastive_rows():
    says = ours("Distillation on ImageNet (Table 7)")
    for student, teacher in (("resnet18", "ResNet-50"), ("resnet34", "ResNet-50"), ("resnet50", "ResNet-101")):
        run = settings.distilled("paper", "imagenet", student, "kd", 0)
        assert run.parent.model == teacher.lower().replace("-", "") and teacher in says
    assert run.options["temperature"] == 1 and run.options["weight"] == run.options["cross_entropy_weight"] == 0.5
    linear = contrastive("paper", "supcon", 0).budget
    byol = contrastive("paper", "byol_dsn", 0)
    says = ours("Contrastive methods")
    assert f"for {linear.epochs} epochs (batch {linear.batch_size}, lr {linear.lr:g})" in says
    assert f"{byol.parent.budget.epochs:,} epochs, then {byol.budget.epochs} epochs on all labels" in says
    with_factor = contrastive("paper", "supcon_base_temperature", 0)
    plain = contrastive("paper", "supcon", 0)
    assert replace(with_factor.parent, options={}) == plain.parent and with_factor.budget == plain.budget
    base = with_factor.parent.options["base_temperature"]
    assert f"[{default(SupervisedContrastive, 'temperature')} / {base} times that]" in says
    assert byol.method == "dsn" and not views.AUGMENTATIONS["imagenet_autoaugment"][1].autoaugment


def test_the_constants_of_the_augmentation():
    says = ours("D13")
    assert f"padding {views.CIFAR[0].fill} and {views.CIFAR[1].fill}" in says
    for name, values in (("means", pixels.CIFAR_MEAN), ("deviations", pixels.CIFAR_STD)):
        assert f"{name} ({', '.join(f'{value:.4f}' for value in values)})" in says
    side = spec("paper").budget.image_size
    assert f"{side // 8} and {side // 2} at {side}x{side}" in says


PAGES = ["README.md", "CONTRIBUTING.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
EXAMPLES = [
    (page, code)
    for page in PAGES
    for code in re.findall(r"^```python\n(import timm\n.+?)^```", (ROOT / page).read_text("utf-8"), re.M | re.S)
]


@pytest.mark.parametrize(("page", "code"), EXAMPLES, ids=[page for page, _ in EXAMPLES])
def test_the_example_runs_as_it_stands(page, code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(code, names)
    assert len(names["losses"]) == 5 and names["logits"].shape == (8, 10)
    with names["torch"].no_grad():
        same = names["plain"].eval()(names["view1"])
    assert names["torch"].equal(same, names["logits"])


def test_there_is_an_example():
    assert "docs/models.md" in dict(EXAMPLES)


def example(page: str, first_line: str) -> str:
    (code,) = re.findall(
        rf"^```python\n({re.escape(first_line)}\n.+?)^```", (ROOT / "docs" / page).read_text("utf-8"), re.M | re.S
    )
    return code


def test_the_parts_of_the_method_serve_a_network_that_is_not_timms():
    names: dict = {}
    torch.manual_seed(0)
    exec(example("library.md", "import torch"), names)
    names["loss"].backward()
    gradients = [p.grad for part in ("network", "heads") for p in names[part].parameters()]
    assert names["z"].shape == (4, 2, 8, 512) and all(torch.isfinite(gradient).all() for gradient in gradients)


def test_the_views_of_a_batch():
    names: dict = {}
    exec(example("library.md", "from cds_lib.augment import Batches, Colour, PaddedView, View, two_views"), names)
    assert names["view1"].shape == names["view2"].shape == (8, 3, 64, 64)
    assert len(list(names["batches"].epoch(0))) == 2


@pytest.mark.parametrize("page", PAGES)
def test_relative_links_and_named_files_exist(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        if not re.match(r"[a-z]+:", target):
            assert ((ROOT / page).parent / target).exists(), target
    for path in re.findall(r"`((?:cds_lib|tests|docs|scripts|benchmarks|notebooks)/[\w./]+)`", text):
        assert (ROOT / path).exists(), path


def test_the_costs_of_the_paper_profile():
    """The runs of every table, and what those of two cost: to count all takes minutes (`--dry-run` does)."""
    page = (ROOT / "docs" / "costs.md").read_text(encoding="utf-8")
    lines = [line for line in page.splitlines() if line.startswith("|")]
    shown = {cells[0]: cells[1:] for cells in ([c.strip() for c in line.strip("|").split("|")] for line in lines[2:])}
    runs = {table.name: table.runs("paper", None) for table in official()}
    everything = {spec.id for specs in runs.values() for spec in specs}
    stated = {name: cells[0] for name, cells in shown.items()}
    assert stated == {name: str(len(specs)) for name, specs in runs.items()} | {
        "together, each run once": f"{len(everything):,}"
    }
    for name in ("00_start_here", "calibration"):
        cost, longest = costs.total(runs[name]), max(costs.run_cost(spec).gpu_hours for spec in runs[name])
        numbers = (cost.flops / 1e15, cost.gpu_hours, longest, cost.model_bytes / 1e9)
        assert shown[name][1:] == [dry_run.number(number) for number in numbers]
    assert f"assume {costs.TERAFLOPS} TFLOP/s" in page
    baseline = settings.supervised("paper", "imagenet", "resnet18", "baseline", 0)
    operations = costs.step_cost(baseline).train_flops / baseline.budget.batch_size
    assert f"about {round(costs.TERAFLOPS * 1e12 / operations, -2):,.0f} images" in (
        ROOT / "docs" / "cluster.md"
    ).read_text(encoding="utf-8")


def test_terms_of_the_papers_sets_are_those_that_data_fetch_shows():
    table = (ROOT / "docs" / "data.md").read_text(encoding="utf-8").split("| --- | --- |\n")[1].splitlines()
    rows = {line.split("](")[0].removeprefix("| ["): line for line in table}
    known = registry.entries()
    used = {cell.dataset for table in official() for cell in table.cells("mini", None)}
    assert rows.keys() >= {known[name].title for name in used}
    for entry in known.values():
        if line := rows.pop(entry.title, ""):
            assert f"]({entry.page})" in line and entry.terms.startswith(line.rsplit(" | ", 1)[1].removesuffix(" |"))
    assert not rows
