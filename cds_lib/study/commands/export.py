"""The command `export`: the plain network of a finished run as a file, and how to load it."""

import argparse
from pathlib import Path

from cds_lib.errors import UsageError
from cds_lib.study.plan.spec import RunSpec
from cds_lib.study.store import Store, results_dir

_TIMM_NAMES = {"preactresnet18": "resnetv2_18"}  # networks that have another name in timm


def export(options: argparse.Namespace) -> int:
    """`export RUN_ID OUT`: return 0 when the file is written. UsageError: the run does not exist, is not finished, has
    no weights or is a detector; OUT lies among the runs. RunError: the weights are damaged."""
    store = Store(results_dir(options.profile, options.results))
    spec = _finished_classifier(Path(options.run).name, store)  # a path to the folder, as completed by Tab, also works
    if Path(options.out).resolve().is_relative_to((store.root / "runs").resolve()):
        raise UsageError(f"{options.out} is inside the folder of runs, whose weights it might replace: choose another.")

    from cds_lib.export import write_weights
    from cds_lib.study.engines import build  # slow
    from cds_lib.study.engines.setup import trained_weights

    prefix = "backbone."
    weights = {k.removeprefix(prefix): v for k, v in trained_weights(spec, store).items() if k.startswith(prefix)}
    write_weights(weights, options.out)
    plain = build.backbone(spec, 1).state_dict()
    # The classifier is the one part whose shape depends on the number of classes. A subset has fewer than usual.
    classes = next(len(value) for name, value in weights.items() if value.shape != plain[name].shape)
    print(f"Written: {options.out}, the network of run {spec.id} ({spec.label}).\nTo load it:\n")
    print("\n".join(f"    {line}" for line in loading(spec, classes, options.out)))
    print(f"\n{_images(spec)}")
    if spec.setting == "pretrain":
        print(f"The run is a pre-training ({spec.method}): the classifier was never trained.")
    return 0


def loading(spec: RunSpec, classes: int, path: str) -> list[str]:
    """Return the lines of Python that load the exported network of a run, which has this number of classes."""
    budget = spec.budget
    if budget.stem == "imagenet" and budget.width == 1:  # timm's own network
        name = _TIMM_NAMES.get(spec.model, spec.model)
        return [
            "import timm",
            f'network = timm.create_model("{name}", num_classes={classes}, checkpoint_path={path!r}).eval()',
        ]
    size = f'stem="{budget.stem}", width={budget.width:g}'
    read = f"torch.load({path!r}, weights_only=True)"
    if path.endswith(".safetensors"):
        read = f"safetensors.torch.load_file({path!r})"
    return [
        f"import {read.partition('.load')[0]}",
        "from cds_lib.models import create_backbone",
        f'network = create_backbone("{spec.model}", {classes}, {size}).eval()',
        f"network.load_state_dict({read})",
    ]


def _images(spec: RunSpec) -> str:
    """Return a description of the images that the network was trained on."""
    from cds_lib.augment.views import statistics  # imports torch

    values = statistics(spec.budget.views["augmentation"])
    mean, deviation = (", ".join(f"{value:g}" for value in channels) for channels in values)
    side, made = spec.budget.image_size, " made" if spec.budget.source == "standin" else ""
    return (
        f"It takes images (B, 3, {side}, {side}), values in 0..1 less the mean ({mean}), divided by the standard "
        f"deviation ({deviation}), and was trained on{made} images of {spec.dataset}."
    )


def _finished_classifier(run_id: str, store: Store) -> RunSpec:
    if not store.is_done(run_id):
        raise UsageError(
            f"There is no finished run {run_id!r} in {store.root}: the last column of its tables has the ids; another "
            "folder is named by --profile or --results."
        )
    spec = store.spec(run_id)
    if spec.detects:
        raise UsageError(f"Run {run_id} is a detector: export {spec.parent.id}, the run that trained its backbone.")
    if not store.model(run_id).exists():
        raise UsageError(
            f"The weights of run {run_id} are not there (most committed runs have none): train it in a folder "
            "of your own, ./run_all.sh with --profile, --only and --results DIR, and give --results DIR here."
        )
    return spec
