"""The pictures and tables of the tutorials: the two views, the taps and heads, the losses, the terms of a training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import pandas as pd
import torch
from IPython.display import HTML, SVG
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from cds_lib.augment.pixels import CIFAR_MEAN, CIFAR_STD, normalise
from cds_lib.augment.views import CIFAR, two_views
from cds_lib.data import sets
from cds_lib.evaluation.mode import evaluating
from cds_lib.methods import ContrastiveDeepSupervision
from cds_lib.models import create_backbone, forward_stages, stage_taps
from cds_lib.reporting import formats, html, naming, report
from cds_lib.reporting.figures import style, svg_text
from cds_lib.reporting.views import save_and_show
from cds_lib.study.report.own_style import own_style

if TYPE_CHECKING:
    from cds_lib.session import Session

_SIZE = 32  # pixels a side
_AS_STORED = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


@own_style
def views(study: Session, count: int = 8) -> SVG:
    """`count` synthetic images above their two augmented views, as the released CIFAR code would augment them."""
    images, _ = _made_images(count)
    view1, view2 = _two_views(images, **_AS_STORED)
    rows = {"image": normalise(images, **_AS_STORED), "view 1": view1, "view 2": view2}
    figure = Figure(figsize=(0.95 * count, 0.95 * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), count)
    for line, (name, pictures) in zip(grid, rows.items(), strict=True):
        for axes, picture in zip(line, pictures, strict=True):
            axes.imshow(picture.permute(1, 2, 0).clamp(0, 1).numpy(), interpolation="nearest")
            axes.set_xticks([])
            axes.set_yticks([])
        line[0].set_ylabel(name)
    return save_and_show(
        study, figure, "Eight synthetic images in a row, below each its view 1 and its view 2.", "views"
    )


def _made_images(count: int) -> tuple[Tensor, Tensor]:
    """The first images of the ten-class stand-in, uint8 (count, 3, 32, 32), and their labels (count,)."""
    data = sets.load("cifar10", None, "standin", _SIZE)
    return torch.from_numpy(data.train_images[:count]), torch.from_numpy(data.train_labels[:count])


def _two_views(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return two_views(images, [replace(view, mean=mean, std=std) for view in CIFAR], generator=generator)


def batch(count: int = 16) -> tuple[Tensor, Tensor, Tensor]:
    """View 1 and view 2 of synthetic images, each (count, 3, 32, 32) and normalised, and their labels (count,)."""
    images, labels = _made_images(count)
    return *_two_views(images, CIFAR_MEAN, CIFAR_STD), labels.long()


def losses_table(losses: Mapping[str, Tensor]) -> HTML:
    """The named losses that a method returned, and their sum."""
    values = {name: loss.item() for name, loss in losses.items()}
    rows = [{"loss": name, "value": f"{value:.3f}"} for name, value in (values | {"sum": sum(values.values())}).items()]
    return _shown(rows, "losses of one batch")


def _shown(rows: list[dict[str, str]], label: str, below: str = "") -> HTML:
    table = Markup(pd.DataFrame(rows).to_html(index=False, border=0))
    return HTML(html.figure(html.scrolling(table, label), below))


def taps_table(method: ContrastiveDeepSupervision | None = None, size: int = _SIZE) -> HTML:
    """What is attached where: a row a stage, with the shapes that an image of `size` pixels has there.

    Without a method that of a full-size ResNet-18 with the stem for small images.
    """
    method = method or ContrastiveDeepSupervision(create_backbone("resnet18", 10), 10)
    taps = stage_taps(method.backbone)
    with evaluating(method), torch.no_grad():
        maps, _ = forward_stages(method.backbone, torch.zeros(1, 3, size, size), taps.indices)
    rows = []
    for stage, features in enumerate(maps, 1):
        head = dict(method.heads.items()).get(str(stage))
        attached = "separable convolutions, pooled" if head else "none: the pooled vector itself"
        rows.append(
            {
                "tap": f"stage {stage}",
                "feature map": " x ".join(map(str, features.shape[1:])),
                "head": attached if stage in method.taps else "not a tap",
                "head parameters": f"{sum(p.numel() for p in head.parameters()):,}" if head else "0",
                "embedding": taps.pooled if stage in method.taps else "",
            }
        )
    network, heads = (sum(p.numel() for p in part.parameters()) for part in (method.backbone, method.heads))
    below = f"The network alone has {network:,} parameters; the heads, which are dropped after training, {heads:,}."
    return _shown(rows, "taps and heads", below)


def result(study: Session) -> HTML:
    """The accuracies of the two trainings; written to RESULTS/tables as csv, Markdown and LaTeX."""
    frame = study.frame()
    report.write_table(frame, study.table, study.store.root)
    rows = [
        {
            "trained": "plain" if row["method"] == "baseline" else f"with {naming.method_name(row['method'])}",
            "test accuracy after the last epoch (%)": "not run" if row["n"] == 0 else f"{row['mean']:.2f}",
            "difference (points)": formats.difference(row["baseline_delta"], row["ci_low"], row["ci_high"]),
        }
        for _, row in frame.iterrows()
    ]
    return _shown(rows, "result", "One seed: the difference may be chance.")


_TERMS = "Cross-entropy and contrastive loss of each tap against the epoch."


def terms(study: Session) -> SVG:
    """The terms of the CDS loss against the epoch; written to RESULTS/figures/<table>_terms.svg."""
    (cell,) = (cell for cell in study.table.cells(study.profile, study.seeds) if cell.method == "cds")
    (spec,) = cell.specs
    history = study.store.history(spec.id)
    names = [name for name in history if name.startswith(("train_cross_entropy", "train_contrastive"))]
    columns = history[names].rename(columns=lambda name: name.removeprefix("train_"))
    figure = _terms_figure(columns, f"training loss (mean over {spec.budget.train_size} images)")
    return save_and_show(study, figure, _TERMS, "terms")


def losses(history: Sequence[Mapping[str, float]]) -> SVG:
    """The same of a loop of one's own: the losses by name, one mapping an epoch."""
    figure = _terms_figure(pd.DataFrame(history), "training loss (last batch of the epoch)")
    return SVG(svg_text(figure), metadata={"alt": _TERMS})


@own_style
def _terms_figure(columns: pd.DataFrame, label: str) -> Figure:
    figure = Figure(figsize=(7.5, 4), layout="constrained")
    axes = figure.add_subplot()
    for column in columns:
        colour, marker = style(column, list(columns))
        name = column.replace("cross_entropy", "cross-entropy").replace("_", ", tap ")
        axes.plot(range(1, len(columns) + 1), columns[column], label=name, color=colour, marker=marker, ms=4)
    axes.set_xlabel("epoch")
    axes.set_ylabel(label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    axes.grid(color="#dddddd", lw=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    if len(columns.columns):
        axes.legend(frameon=False)
    return figure
