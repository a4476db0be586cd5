"""The pictures and tables of the first notebook: the two views, the taps and heads, the two trainings."""

from __future__ import annotations

import pandas as pd
import torch
from IPython.display import HTML, SVG
from matplotlib.figure import Figure

from cds_lib.data import augment, sets
from cds_lib.methods import ContrastiveDeepSupervision
from cds_lib.models import create_backbone, forward_stages, stage_taps
from cds_lib.study.figures import colour_and_marker
from cds_lib.study.session import Session
from cds_lib.study.views import save_and_show


def views(study: Session, count: int = 8, size: int = 32, seed: int = 0) -> SVG:
    """`count` made images above their two augmented views, as the released CIFAR code would augment them."""
    data = sets.load("cifar10", None, "standin", size)
    images = torch.from_numpy(data.train_images[:count])
    generator = torch.Generator().manual_seed(seed)
    identity = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
    rows = {
        "image": augment.normalise(images, **identity),
        "view 1": augment.apply_view1(images, augment.draw_view1(count, size, generator), **identity),
        "view 2": augment.apply_view2(images, augment.draw_view2(count, size, generator), **identity),
    }
    figure = Figure(figsize=(0.95 * count, 0.95 * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), count)
    for line, (name, pictures) in zip(grid, rows.items(), strict=True):
        for axes, picture in zip(line, pictures, strict=True):
            axes.imshow(picture.permute(1, 2, 0).clamp(0, 1).numpy(), interpolation="nearest")
            axes.set_xticks([])
            axes.set_yticks([])
        line[0].set_ylabel(name)
    return save_and_show(study, "views", figure, "Eight made images in a row, below each its view 1 and its view 2.")


def taps_table(model: str = "resnet18", size: int = 32) -> HTML:
    """What is attached where: a row a stage of the full-size network with the shapes that a forward pass shows."""
    backbone = create_backbone(model, 10)
    method = ContrastiveDeepSupervision(backbone, 10)
    taps = stage_taps(backbone)
    with torch.no_grad():
        maps, _ = forward_stages(backbone, torch.zeros(1, 3, size, size), taps.indices)
    rows = []
    for stage, features in enumerate(maps, 1):
        head = dict(method.heads.items()).get(str(stage))
        rows.append(
            {
                "tap": f"stage {stage}",
                "feature map": " x ".join(map(str, features.shape[1:])),
                "head": "none: the pooled vector itself" if head is None else "separable convolutions, pooled",
                "head parameters": f"{sum(p.numel() for p in head.parameters()):,}" if head else "0",
                "embedding": taps.pooled,
            }
        )
    return HTML(pd.DataFrame(rows).to_html(index=False, border=0))


def terms(study: Session) -> SVG:
    """The terms of the CDS loss against the epoch: cross-entropy, and the contrastive loss of every tap."""
    figure = Figure(figsize=(7.5, 4), layout="constrained")
    axes = figure.add_subplot()
    (cell,) = (cell for cell in study.table.cells(study.profile, study.seeds) if cell.method == "cds")
    (spec,) = cell.specs
    history = study.store.history(spec.id)
    columns = [name for name in history if name.startswith(("train_cross_entropy", "train_contrastive"))]
    for index, column in enumerate(columns):
        colour, marker = colour_and_marker(index)
        style = {"color": colour, "marker": marker, "ms": 4}
        label = column.removeprefix("train_").replace("cross_entropy", "cross-entropy").replace("_", ", tap ")
        axes.plot(history["epoch"], history[column], label=label, **style)
    axes.set_xlabel("epoch")
    axes.set_ylabel(f"training loss (mean over {spec.budget.train_size} images)")
    axes.grid(color="#dddddd", lw=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    if columns:
        axes.legend(frameon=False)
    return save_and_show(study, "terms", figure, "Cross-entropy and contrastive loss of each tap against the epoch.")
