"""The pages agree with code and results: quoted defaults, links, examples, costs and every finding."""

import inspect
import re
from dataclasses import replace

import pandas as pd
import pytest
import torch

from cds_lib.augment import pixels, views
from cds_lib.losses import supcon_loss
from cds_lib.methods import ContrastiveDeepSupervision, DeeplySupervisedNet, DistilledCDS
from cds_lib.methods.supcon import SupervisedContrastive
from cds_lib.models import create_backbone, projection_heads
from cds_lib.study.checkout import CHECKOUT as ROOT
from cds_lib.study.commands import costs, dry_run
from cds_lib.study.data import registry
from cds_lib.study.plan import protocols, settings
from cds_lib.study.tables import TABLES, deviations, official
from cds_lib.study.tables.contrastive_methods import contrastive
from cds_lib.study.tables.table4_coco import detector

PAGES = ["README.md", "CONTRIBUTING.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def rows(*pages: str) -> list[list[str]]:
    """Return the cells of the one table on each page, without its first two lines."""
    found = []
    for page in pages:
        lines = [line for line in read(f"docs/{page}.md").splitlines() if line.startswith("|")]
        found += [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    return found


DEVIATIONS = rows("deviations", "deviations_training")
CHOICES = rows("choices", "choices_imagenet")
# What the study does according to the pages: deviation id or choice name -> text.
OURS = {row[0]: row[3] for row in DEVIATIONS} | {row[0]: row[1] for row in CHOICES}
OURS["miniature.md"] = " ".join(read("docs/miniature.md").split())  # without line breaks


def test_every_deviation_is_there_once():
    assert sorted((row[0] for row in DEVIATIONS), key=lambda name: int(name[1:])) == [f"D{n}" for n in range(1, 33)]
    assert all(len(row) == 5 and all(row) for row in DEVIATIONS) and all(len(row) == 3 and all(row) for row in CHOICES)


def test_the_rows_that_say_so_are_measured():
    said = {row[0] for row in DEVIATIONS if "Measured" in row[4]}
    # Two are not switches: last and best epoch are columns of every table, and Table 3 has runs without the max-pool.
    assert said == {switch.deviation for switch in deviations.SWITCHES} | {"D12", "D21"}


def test_no_page_is_long_but_the_register_which_only_grows():
    pages = {page: len(re.sub(r"<!--.*?-->", "", read(page), flags=re.S).split()) for page in PAGES}
    pages.pop("docs/registration.md")
    assert {name: words for name, words in pages.items() if words > 1000 + 200 * (name == "README.md")} == {}


def spec(profile, method="cds", dataset="cifar100", model="resnet18"):
    return settings.supervised(profile, dataset, model, method, 0)


def default(function, name):
    return inspect.signature(function).parameters[name].default


def listed(values) -> str:
    return ", ".join(map(str, values))


def weight(run) -> str:
    return f"{run.options['weight']:g}"


def steps(budget) -> str:
    return f"after {' and '.join(map(str, budget.milestones))}"


PAPER, MINI, SMOKE = (spec(profile) for profile in ("paper", "mini", "smoke"))
UNTUNED = spec("mini", dataset="imagenet")
DISTILLED = {n: settings.distilled("paper", n, "resnet18", "cds_kd", 0).options for n in ("cifar100", "imagenet")}
FULL, SMALL = PAPER.budget, MINI.budget
KINDS = ("imagenet", "finetune", "detection")
IMAGENET, TUNING, DETECTION = (protocols.budget("paper", kind, "resnet50") for kind in KINDS)
VIEW1, VIEW2 = views.AUGMENTATIONS[IMAGENET.augmentation]
SUPCON, BYOL = contrastive("paper", "supcon", 0), contrastive("paper", "byol_dsn", 0)
WITH_FACTOR = contrastive("paper", "supcon_base_temperature", 0)
HEADLINE, BREADTH = protocols.HEADLINE_SEEDS["mini"], protocols.BREADTH_SEEDS["mini"]
WIDTHS = {run.model: run.budget.width for run in TABLES["table1_cifar100"].runs("mini", (0,))}
UNITS = [len(head.units) for head in projection_heads([8, 8, 8], 8)]

QUOTED = {
    "D1": [f"taps {listed(PAPER.options['taps'])}"],
    "D5": ["{}, {} and {} separable-convolution units".format(*UNITS)],
    "D6": [
        f"{weight(PAPER)} a stage (`paper`, `smoke`); in `mini` on CIFAR {weight(MINI)} for `cds` and "
        f"{weight(settings.semi_supervised('mini', 'cifar10', 'cds_simclr', 10, 0))} for `cds_simclr`, "
        f"{weight(settings.distilled('mini', 'cifar100', 'resnet18', 'cds_kd', 0))} for `cds_kd` and off CIFAR",
        f"{weight(TABLES['00_start_here'].runs('smoke', None)[1])} in the first",
        f"Distilled CDS on ImageNet: {DISTILLED['imagenet']['weight']:g} as released",
    ],
    "D7": [
        f"{PAPER.options['temperature']:g}. Distilled CDS: {default(DistilledCDS, 'temperature'):g} on CIFAR, "
        f"{DISTILLED['imagenet']['temperature']:g} on ImageNet"
    ],
    "D12": [
        f"Seeds {HEADLINE[0]} to {HEADLINE[-1]} for ResNet-18 in Table 1",
        f"{listed(protocols.SEEDS['paper'])} for all else (`smoke`: {listed(protocols.SEEDS['smoke'])}; in `mini` "
        f"{listed(BREADTH)} for other",
    ],
    "D13": [
        f"padding {views.CIFAR[0].fill} and {views.CIFAR[1].fill}",
        *(
            f"{name} ({', '.join(f'{value:.4f}' for value in values)})"
            for name, values in (("means", pixels.CIFAR_MEAN), ("deviations", pixels.CIFAR_STD))
        ),
        f"{FULL.image_size // 8} and {FULL.image_size // 2} at {FULL.image_size}x{FULL.image_size}",
    ],
    "D14": [f"{FULL.weight_decay:g} on all"],
    "D16": ["is {}, {} and {} of {}.".format(*FULL.milestones, FULL.epochs)],
    "D31": [{10: "ten"}[len(WIDTHS)]],
    "DSN head and weight": [
        f"weight {weight(spec('paper', 'dsn'))} each (`mini` on CIFAR: {weight(spec('mini', 'dsn'))}, chosen on"
    ],
    "DKS and DHM branches": [
        f"`mini` on CIFAR: {weight(spec('mini', 'dks'))} for DKS, {weight(spec('mini', 'dhm'))} for DHM, chosen on"
    ],
    "Miniature protocol": [
        f"`paper`: {FULL.image_size}x{FULL.image_size}, all images, batch {FULL.batch_size}, lr {FULL.lr:g}"
    ],
    "miniature.md": [
        f"{SMALL.image_size}x{SMALL.image_size} pixels",
        f"{SMALL.train_size:,} class-balanced training images",
        f"{SMALL.val_size:,} held out",
        f"{SMALL.epochs} epochs, batch {SMALL.batch_size}, lr {SMALL.lr:g} with {SMALL.warmup_epochs} epoch of",
        f"weight {weight(MINI)} a tap, no Cutout",
        f"tested every {SMALL.eval_every} epochs",
        f"width {WIDTHS['resnet18']:g} for resnet18 and {min(WIDTHS.values()):g} to {max(WIDTHS.values()):g} for the",
    ],
    "ImageNet": [
        f"{IMAGENET.epochs} epochs, batch {IMAGENET.batch_size}, lr {IMAGENET.lr:g} divided by 10",
        f"every {IMAGENET.milestones[0]} epochs, weight decay {IMAGENET.weight_decay:g}",
        f"short side {IMAGENET.stored_size}, centre {IMAGENET.image_size}",
        f"{100 * VIEW1.scale:g} to 100 % of the area",
        f"{100 * VIEW2.scale:g} to 100 %, flip, j",
    ],
    "Fine-tuning (Table 6)": [
        f"SGD {TUNING.lr:g}, {({10: 'ten'})[TUNING.new_lr_factor]} times that for what is new",
        f"{TUNING.epochs} epochs of batch {TUNING.batch_size}, lr / 10 {steps(TUNING)}; images of",
    ],
    "Detection (Table 4)": [
        f"{DETECTION.epochs} epochs of batch {DETECTION.batch_size}, SGD {DETECTION.lr:g} (RetinaNet "
        f"{detector('paper', 'retinanet', 'baseline', 0).budget.lr:g})",
        f"lr / 10 {steps(DETECTION)}, {DETECTION.warmup_steps} steps of warm-up, short side {DETECTION.image_size}, "
        f"gradients clipped to a norm of {DETECTION.clip_norm:g} (",
    ],
    "Flowers-102": [f"{registry.entry('flowers102').train:,} images"],
    "Distillation on ImageNet (Table 7)": ["ResNet-50", "ResNet-101"],
    "Contrastive methods": [
        f"for {SUPCON.budget.epochs} epochs (batch {SUPCON.budget.batch_size}, lr {SUPCON.budget.lr:g})",
        f"{BYOL.parent.budget.epochs:,} epochs, then {BYOL.budget.epochs} epochs on all labels",
        "[{} / {} times that]".format(
            default(SupervisedContrastive, "temperature"), WITH_FACTOR.parent.options["base_temperature"]
        ),
    ],
}


@pytest.mark.parametrize("name", QUOTED)
def test_what_a_page_quotes_is_what_the_code_does(name):
    for text in QUOTED[name]:
        assert text in OURS[name], text


def test_the_librarys_defaults_are_those_of_the_paper_profile():
    options = PAPER.options
    assert SMOKE.options == options == spec("paper", "cds_simclr").options
    assert {**options, "weight": UNTUNED.options["weight"]} == UNTUNED.options
    assert {**options, "weight": MINI.options["weight"]} == MINI.options
    assert default(ContrastiveDeepSupervision, "use_labels") and default(ContrastiveDeepSupervision, "taps") is None
    assert options["taps"] == list(ContrastiveDeepSupervision(create_backbone("resnet18", 2, width=0.0625), 2).taps)
    for name in ("weight", "temperature"):
        assert default(ContrastiveDeepSupervision, name) == options[name]
    assert default(supcon_loss, "temperature") == options["temperature"]
    assert default(DeeplySupervisedNet, "weight") == spec("paper", "dsn").options["weight"]
    assert "temperature" not in DISTILLED["cifar100"]


def test_the_protocols_are_what_the_pages_call_them():
    assert (FULL.schedule, FULL.warmup_epochs, FULL.cutout, FULL.train_size) == ("step", 0, True, None)
    assert (SMALL.schedule, SMALL.cutout, IMAGENET.milestones) == ("cosine", False, (30, 60))
    assert [run.budget.precision for run in (PAPER, MINI, SMOKE)] == ["amp", "fp32", "fp32"]
    assert protocols.SEEDS["mini"] == protocols.SEEDS["paper"] and protocols.HEADLINE_SEEDS["paper"] == HEADLINE
    plain = SUPCON.parent
    assert replace(WITH_FACTOR.parent, options={}) == plain and WITH_FACTOR.budget == SUPCON.budget
    assert BYOL.method == "dsn" and not views.AUGMENTATIONS["imagenet_autoaugment"][1].autoaugment
    teachers = {name: settings.distilled("paper", "imagenet", name, "kd", 0).parent.model for name in settings.TEACHERS}
    assert teachers == {"resnet18": "resnet50", "resnet34": "resnet50", "resnet50": "resnet101"}


def example(page: str, first_line: str) -> dict:
    """Run an example of a page unchanged and return its names."""
    (code,) = re.findall(rf"^```python\n({re.escape(first_line)}\n.+?)^```", read(page), re.M | re.S)
    names: dict = {}
    torch.manual_seed(0)
    exec(code, names)
    return names


@pytest.mark.parametrize("page", [page for page in PAGES if "```python\nimport timm\n" in read(page)])
def test_the_example_runs_as_it_stands(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = example(page, "import timm")
    assert len(names["losses"]) == 5 and names["logits"].shape == (8, 10)
    with torch.no_grad():
        assert torch.equal(names["plain"].eval()(names["view1"]), names["logits"])


def test_the_parts_of_the_library_serve_other_networks_and_images():
    names = example("docs/library.md", "import torch")
    names["loss"].backward()
    gradients = [p.grad for part in ("network", "heads") for p in names[part].parameters()]
    assert names["z"].shape == (4, 2, 8, 512) and all(torch.isfinite(gradient).all() for gradient in gradients)
    names = example("docs/library.md", "from cds_lib.augment import Batches, Colour, View, two_views")
    assert names["view1"].shape == names["view2"].shape == (8, 3, 64, 64)
    assert len(list(names["batches"].epoch(0))) == 2
    assert len({(view.mean, view.std) for view in (names["plain"], names["strong"])}) == 1


@pytest.mark.parametrize("page", PAGES)
def test_relative_links_and_named_files_exist(page):
    for target in re.findall(r"\]\(([^)#\s]+)", read(page)):
        if not re.match(r"[a-z]+:", target):
            assert ((ROOT / page).parent / target).exists(), target
    for path in re.findall(r"`((?:cds_lib|tests|docs|scripts|benchmarks|notebooks)/[\w./]+)`", read(page)):
        assert (ROOT / path).exists() or f"that were in `{path}`" in read(page), path  # a later entry says it moved


def test_the_costs_of_the_paper_profile():
    """Check the runs of every table and the cost of two. Counting all takes minutes (`--dry-run` does it)."""
    shown = {name: cells for name, *cells in rows("costs")}
    runs = {table.name: table.runs("paper", None) for table in official()}
    everything = {spec.id for specs in runs.values() for spec in specs}
    assert {name: cells[0] for name, cells in shown.items()} == {
        **{name: str(len(specs)) for name, specs in runs.items()},
        "together, each run once": f"{len(everything):,}",
    }
    for name in ("00_start_here", "calibration"):
        cost, longest = costs.total(runs[name]), max(costs.run_cost(spec).gpu_hours for spec in runs[name])
        numbers = (cost.flops / 1e15, cost.gpu_hours, longest, cost.model_bytes / 1e9)
        assert shown[name][1:] == [dry_run.number(number) for number in numbers]
    assert f"assume {costs.TERAFLOPS} TFLOP/s" in read("docs/costs.md")
    baseline = spec("paper", "baseline", "imagenet")
    operations = costs.step_cost(baseline).train_flops / baseline.budget.batch_size
    images = round(costs.TERAFLOPS * 1e12 / operations, -2)
    assert f"about {images:,.0f} images" in read("docs/cluster.md")


def test_terms_of_the_papers_sets_are_those_that_data_fetch_shows():
    table = read("docs/data.md").split("| --- | --- |\n")[1].splitlines()
    rows = {line.split("](")[0].removeprefix("| ["): line for line in table}
    known = registry.entries()
    used = {cell.dataset for table in official() for cell in table.cells("mini", None)}
    assert rows.keys() >= {known[name].title for name in used}
    for entry in known.values():
        if line := rows.pop(entry.title, ""):
            assert f"]({entry.page})" in line and entry.terms.startswith(line.rsplit(" | ", 1)[1].removesuffix(" |"))
    assert not rows


# -- findings ----------------------------------------------------------------------------------------------------------


# A number has its address in a comment behind it, as in `2.6<!-- comparisons: question=accuracy; difference above -->`:
# column `difference` of the one row of results/mini/tables/comparisons.csv with these values, at the printed decimals.
# `above`, `below` or `open` is the position of its 95 % interval relative to zero; `rows` counts the rows. An address
# without a column checks only the interval.
ADDRESS = re.compile(r"([+−-]?[\d,]*\.?\d+|none|\w+)<!-- (\w+): ?([^;>]*); ([^>]+?) -->")
FOUND = [(page, *found) for page in PAGES for found in ADDRESS.findall(read(page))]


def row_of(table: str, where: str) -> pd.DataFrame:
    frame = pd.read_csv(ROOT / "results" / "mini" / "tables" / f"{table}.csv")
    for name, value in re.findall(r"(\w+)=(.+?)(?= \w+=|\s*$)", where):
        frame = frame[frame[name].astype(str) == value]
    return frame


def side(row: pd.Series) -> str:
    low, high = (row["low"], row["high"]) if "low" in row else (row["ci_low"], row["ci_high"])
    return "above" if low > 0 else "below" if high < 0 else "open"


@pytest.mark.parametrize(
    ("page", "text", "table", "where", "what"), FOUND, ids=[f"{p} {t} {w}" for p, t, _, w, _ in FOUND]
)
def test_a_stated_number_is_where_its_address_says(page, text, table, where, what):
    rows = row_of(table, where)
    column, *sides = what.split()
    if column == "rows":
        assert len(rows) == (0 if text == "none" else int(text.replace(",", "")))
        return
    assert len(rows) == 1, f"{page}: {table}: {where} is the address of {len(rows)} rows"
    (row,) = (row for _, row in rows.iterrows())
    if column in ("above", "below", "open"):
        sides = [column]
    else:
        printed = text.replace("−", "-").replace(",", "")
        decimals = len(printed.partition(".")[2])
        assert f"{row[column]:.{decimals}f}" == f"{float(printed):.{decimals}f}"
    assert all(side(row) == said for said in sides)


def test_no_address_is_overlooked_and_every_finding_has_one():
    for page in PAGES:
        assert len(re.findall(r"<!-- \w+:", read(page))) == len(ADDRESS.findall(read(page))), page
    findings = read("README.md").split("## What was found")[1].split("What limits this")[0]
    items = re.split(r"^\d\. ", findings, flags=re.M)[1:]
    assert len(items) >= 3 and all(ADDRESS.search(item) for item in items)
