"""Check on a GPU that what the study computes is right, and how fast it is. Takes about ten minutes on one H100.

    python benchmarks/gpu.py --data FOLDER > gpu.txt

Prints one line of JSON per result as it comes, and a Markdown table of all results at the end. Exit code 1: a result
misses its required range, or a check broke. Speeds are only reported; their expected values, for an H100, were derived
from operator counts and published rates and never measured. Checks run in the order of their value. Checks that no
longer fit into --minutes are skipped. In the remaining time CDS and its control of two views are trained at full size,
on a shortened schedule.

Needs no network and only the packages of the library; decoding images and reading a data root need those of the study.
"""

import argparse
import contextlib
import json
import math
import os
import queue
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from arms import PAIR, Budget, create
from cds_lib.augment.batches import Batches, evaluation_batches
from cds_lib.augment.resized import resized_crop
from cds_lib.augment.views import AUGMENTATIONS, CIFAR, moved
from cds_lib.errors import UsageError
from cds_lib.evaluation.accuracy import evaluate
from cds_lib.losses import supcon_loss
from cds_lib.training import distributed
from cds_lib.training.compiled import Compiled
from cds_lib.training.loop import Step, fit
from visit import CLASSES, Visit, load, machine, table

LEARNING_RATE = 0.01  # of steps that are compared: at the paper's learning rate, differences grow too fast


def budget_of(visit: Visit, **changes: Any) -> Budget:
    """Return the budget. A small visit has narrow networks, small batches and float32, because a CPU without
    support for bfloat16 takes ten times as long for it."""
    small = {"width": 1 / 16, "batch_size": 32, "precision": "fp32"} if visit.small else {}
    return Budget(**small | changes)


def begin(visit: Visit, arm: str, compiled: bool = False, **changes: Any) -> tuple[Step, Batches]:
    """Return the training step of an arm with its initial weights, and its batches."""
    budget = budget_of(visit, **changes)
    step = Step(create(arm, budget), budget, device=visit.device)
    if compiled:
        step.losses = Compiled(step.method, visit.device)
        if visit.small:  # graphs without compiled kernels, which take minutes to build
            step.losses.compiled = torch.compile(step.method, dynamic=False, backend="aot_eager")
    return step, Batches(*visit.images[:2], batch_size=budget.batch_size, seed=0, views=step.method.views)


def endless(batches: Batches, epoch: int = 0) -> Iterator[Any]:
    """Yield whole batches, epoch after epoch."""
    while True:
        yield from (batch for batch in batches.epoch(epoch) if len(batch[1]) == batches.batch_size)
        epoch += 1


def loss_of(step: Step, batch: Any) -> Tensor:
    losses, _ = step(*batch, LEARNING_RATE)
    return sum(losses.values()).detach().clone()


# -- correctness -------------------------------------------------------------------------------------------------------
def check_loss(visit: Visit) -> None:
    """Check the contrastive loss against its definition in float64 on the CPU, except in the largest case."""
    cases = ((4, 256, 512, "< 0.5"), (4, 512, 2048, "< 1.5"), (1, 12288, 128, "< 30"))
    for taps, n, dim, expected in ((4, 64, 32, ""),) if visit.small else cases:
        generator, case = torch.Generator().manual_seed(n), f"loss, {taps} x {n} x {dim}"
        exact = F.normalize(torch.randn(taps, 2, n // 2, dim, generator=generator, dtype=torch.float64), dim=-1)
        labels = torch.randint(CLASSES, (n // 2,), generator=generator)
        z, there = exact.float().to(visit.device).requires_grad_(), labels.to(visit.device)
        forward_backward = partial(_loss_and_gradient, z, there, supcon_loss)
        if n <= 512:
            wanted = _loss_and_gradient(exact.requires_grad_(), labels, supcon_in_words)
            computed = {"": (forward_backward(), (1e-5, 1e-4))}
            torch.set_float32_matmul_precision("high")  # TF32, only to show what it would cost
            try:
                computed[", TF32"] = forward_backward(), (None, None)
            finally:
                torch.set_float32_matmul_precision("highest")
            for how, (results, most) in computed.items():
                for name, found, right, high in zip(("loss", "gradient"), results, wanted, most, strict=True):
                    difference = ((found.double().cpu() - right).norm() / right.norm()).item()
                    visit.say(case, f"{name}, relative difference{how}", difference, 0, high)
        milliseconds = visit.milliseconds(forward_backward, 1 if visit.small else 10)
        visit.say(case, "forward and backward, ms", milliseconds, expected=expected)


def _loss_and_gradient(z: Tensor, labels: Tensor, loss: Callable[..., Tensor]) -> tuple[Tensor, Tensor]:
    z.grad = None
    value = loss(z, labels)
    value.sum().backward()
    return value.detach(), z.grad


def supcon_in_words(z: Tensor, labels: Tensor) -> Tensor:
    """Return the contrastive loss of z (taps, 2, B, dim), anchor by anchor as in its definition."""
    z, labels = z.flatten(1, 2), labels.repeat(2)
    itself = torch.eye(len(labels), dtype=torch.bool)
    s = (z @ z.mT / 0.07).masked_fill(itself, -math.inf)
    log_p = (s - s.logsumexp(-1, keepdim=True)).masked_fill(itself, 0)
    positive = (labels[:, None] == labels) & ~itself
    return -((log_p * positive).sum(-1) / positive.sum(-1)).mean(-1)


def check_views(visit: Visit) -> None:
    """Check that the same draws give the same views as on the CPU. ImageNet crops may differ by two grey levels. Colour
    would amplify this, so the steps after the crop are checked with the same crop."""
    count = 32 if visit.small else 512
    images = torch.randint(0, 256, (count, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))

    def drawn(view: Any, side: int, size: int) -> tuple[Any, Any]:
        """Return the draws for the CPU and for the device."""
        draws = view.draw(count, side, size, torch.Generator().manual_seed(1))
        return draws, moved(draws, visit.device)

    def differ(name: str, here: Tensor, there: Tensor, levels: int = 0) -> None:
        apart = (here - there.cpu()).abs().round()
        visit.say(name, "pixels that differ", int((apart > 0).sum()), 0, None if levels else 0)
        visit.say(name, "largest difference, grey levels", apart.max().item(), 0, levels)

    for n, view in enumerate(CIFAR, 1):
        part, (here, there) = images[:, :, :32, :32].contiguous(), drawn(view, 32, 32)
        views = view.apply(part, here, 32), view.apply(part.to(visit.device), there, 32)
        differ(f"CIFAR view {n}", *(levels_of(made, view) for made in views))
    for n, view in enumerate(AUGMENTATIONS["imagenet"], 1):
        here, there = drawn(view, 64, 56)
        crop = resized_crop(images, here.boxes, here.flip, 56)
        other = resized_crop(images.to(visit.device), there.boxes, there.flip, 56)
        differ(f"ImageNet view {n}, crop", crop.float(), other.float(), 2)
        finished = (view.finish(c, d.colour) for c, d in ((crop, here), (crop.to(visit.device), there)))
        differ(f"ImageNet view {n}, colour", *(levels_of(made, view) for made in finished))


def levels_of(made: Tensor, view: Any) -> Tensor:
    """Return a normalised view in grey levels, without the mean added."""
    return made.cpu() * 255 * torch.tensor(view.std)[:, None, None]


def check_steps(visit: Visit) -> None:
    """Check and time steps as `fit` takes them: every loss is finite, and no step waits for the device."""
    for arm, kernels, milliseconds in (("baseline", "250-350", ""), ("cds_released", "750-1000", "6-9")):
        _measure(visit, f"{arm}, eager", *begin(visit, arm), kernels, milliseconds)


def check_compiled(visit: Visit) -> None:
    """Check compiled and captured steps: the same losses from the same weights, one more graph for a smaller batch."""
    from torch._dynamo.utils import counters

    for arm, milliseconds in (("cds_released", "3.5-5"), ("baseline", ""))[: 1 if visit.small else 2]:
        case, count = f"{arm}, compiled", 3 if visit.small else 20
        (eager, batches), (step, _) = begin(visit, arm), begin(visit, arm, compiled=True)
        counters.clear()
        pairs = [(loss_of(eager, b), loss_of(step, b)) for b in islice(endless(batches), count)]
        plain, made = (torch.stack(losses).mean().item() for losses in zip(*pairs, strict=True))
        (how,) = step.losses.how.values()
        visit.say(case, f"loss, {how}", made / plain, 0.98, 1.02)
        wanted = "compiled and captured" if visit.gpu else "compiled"
        visit.say(case, f"is {wanted}", int(how == wanted), 1, 1)
        if how.startswith("not"):
            continue
        _measure(visit, case, step, batches, "", milliseconds)
        before, (views, labels, index) = counters["stats"]["unique_graphs"], next(batches.epoch(0))
        for size in (80, 128, 80) if not visit.small else (20, 32, 20):
            loss_of(step, ([view[:size] for view in views], labels[:size], index[:size]))
        visit.say(case, "graphs more, with smaller batches", counters["stats"]["unique_graphs"] - before, 1, 1)
        visit.say(case, f"sizes that are not {wanted}", sum(how != wanted for how in step.losses.how.values()), 0, 0)


def _measure(visit: Visit, case: str, step: Step, batches: Batches, kernels: str, milliseconds: str) -> None:
    """Measure speed and memory of steps. kernels, milliseconds: expected values per step."""
    warm, count = (2, 2) if visit.small else (20, 200)
    stream = endless(batches)
    if visit.gpu:
        torch.cuda.reset_peak_memory_stats()
    first = torch.stack([loss_of(step, batch) for batch in islice(stream, warm)])
    visit.say(case, "first losses that are not finite", int((~torch.isfinite(first)).sum()), 0, 0)
    if visit.gpu:
        # Views are made for several batches at once. The beginning of an epoch waits once and is not checked.
        inside = min(2 * batches.at_once, len(visit.images[1]) // batches.batch_size - 1)
        stream = endless(batches)
        loss_of(step, next(stream))
        torch.cuda.set_sync_debug_mode("error")
        try:
            for batch in islice(stream, inside):
                loss_of(step, batch)
            visit.say(case, "steps that wait for the device", 0, 0, 0)
        except RuntimeError as error:
            visit.say(case, f"steps that wait for the device ({str(error).splitlines()[0]})", 1, 0, 0)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        stream = endless(batches)
    began = visit.now()
    for batch in islice(stream, count):
        loss_of(step, batch)
    host, seconds = time.perf_counter() - began, visit.now() - began
    visit.say(case, "step, ms", 1e3 * seconds / count, expected=milliseconds)
    visit.say(case, "step until the host has given it, ms", 1e3 * host / count)
    visit.say(case, "step of ready views, ms", visit.milliseconds(lambda: loss_of(step, batch), count))
    visit.say(case, "views of a step, ms", visit.milliseconds(lambda: next(stream), count), expected="< 1.5")
    visit.say(case, "images a second", batches.batch_size * count / seconds)
    if visit.gpu:
        with torch.profiler.profile() as profiled:
            for batch in islice(stream, 2 * batches.at_once):
                loss_of(step, batch)
            visit.now()
        cuda = torch.autograd.DeviceType.CUDA
        events = [(e.device_type == cuda, e.name) for e in profiled.events() or () if not e.is_user_annotation]
        given = [name for there, name in events if "LaunchKernel" in name or "GraphLaunch" in name]
        for what, number in (("kernels", sum(there for there, _ in events)), ("launches", len(given))):
            visit.say(case, f"{what} a step", number / (2 * batches.at_once), expected=kernels)
        visit.say(case, "peak memory, GiB", torch.cuda.max_memory_allocated() / 2**30, expected="< 4")
    if case.startswith("cds") and seconds / count < visit.step_seconds:
        visit.step_seconds, visit.compiled = seconds / count, "compiled" in case


def check_precision(visit: Visit) -> None:
    """Compare the same steps from the same weights in three precisions."""
    means = {}
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        step, batches = begin(visit, "cds_released", precision="fp32" if dtype == torch.float32 else "amp")
        scaler = torch.amp.GradScaler(visit.device.type, enabled=dtype == torch.float16)
        step.precision.dtype, step.precision.scaler = dtype, scaler
        losses = [loss_of(step, batch) for batch in islice(endless(batches), 2 if visit.small else 50)]
        means[dtype] = torch.stack(losses[-10:]).mean().item()
        visit.say("precision", f"loss in {dtype} against float32", means[dtype] / means[torch.float32], 0.98, 1.02)
    # Each step that is skipped because its gradients are not finite halves the scale.
    visit.say("precision", "scale of float16's loss at the end", scaler.get_scale(), 2**10, 2**20)


def check_resume(visit: Visit) -> None:
    """Compare two epochs of `fit` with the same two epochs, stopped after one and resumed from the checkpoint."""
    budget = budget_of(visit, epochs=2, lr=LEARNING_RATE)
    with tempfile.TemporaryDirectory() as folder:
        # cuDNN's search may choose other convolution kernels the next time, and some kernels add up in any order.
        torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = False, True
        try:
            whole, seconds = _fit(visit, "cds_released", budget, Path(folder) / "whole.pt")
            _fit(visit, "cds_released", budget, Path(folder) / "stopped.pt", stop_after=1)
            resumed, _ = _fit(visit, "cds_released", budget, Path(folder) / "stopped.pt")
        finally:
            torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = True, False
        size = (Path(folder) / "whole.pt").stat().st_size
    losses = [row["train_loss"] for row in (*whole, resumed[-1])]
    visit.say("fit", "loss of epoch 2 against epoch 1", losses[1] / losses[0], 0, 1)
    # Bit-exact on a CPU; a GPU may occasionally add up in another order.
    visit.say("fit", "loss of epoch 2 when resumed", losses[2] / losses[1], *((0.999, 1.001) if visit.gpu else (1, 1)))
    training = sum(len(visit.images[1]) / row["images_per_second"] for row in whole)
    visit.say("fit", "share of evaluation and checkpoint", 1 - training / seconds, expected="< 0.1")
    visit.say("fit", "checkpoint, MB", size / 1e6)


def _fit(visit: Visit, arm: str, budget: Budget, path: Path, **more: Any) -> tuple[list[dict[str, float]], float]:
    """Train, and return the rows of the history and the seconds it took."""
    method, (train, labels, *test) = create(arm, budget), visit.images
    batches = Batches(train, labels, batch_size=budget.batch_size, seed=0, views=method.views)

    def measure(network: nn.Module) -> dict[str, float]:
        return {f"test_{name}": value for name, value in evaluate(network, evaluation_batches(*test, 500)).items()}

    began = visit.now()
    more |= {"device": visit.device, "checkpoint_path": path, "on_epoch": lambda rows: None}
    return fit(method, batches, measure, budget, **more), visit.now() - began


# -- several processes -------------------------------------------------------------------------------------------------
def check_two_runs(visit: Visit) -> None:
    """Measure the speed of one and of two CDS trainings at a time on one device."""
    rates = [sum(_in_processes(visit, runs, _train_for_a_while)) for runs in (1, 2)]
    visit.say("runs at a time", "one: images a second", rates[0])
    visit.say("runs at a time", "two: images a second, together", rates[1])
    visit.say("runs at a time", "two against one", rates[1] / rates[0], expected="1.2-1.6")


def check_processes(visit: Visit) -> None:
    """Check that two processes (a GPU each) that contrast and normalise all images have one process's gradient."""
    for difference in _in_processes(visit, 2, _gradient_of_two):
        visit.say("two processes", "gradient, relative difference", difference, 0, 1e-3)


def _in_processes(visit: Visit, count: int, work: Callable[[Visit, Any], float]) -> list[float]:
    """Return the results of new processes that do the same work at the same time."""
    context = torch.multiprocessing.get_context("spawn")
    together, found = context.Barrier(count), context.Queue()
    more = (count, visit.device.type, visit.small, work, together, found)
    children = [context.Process(target=_one_of_them, args=(rank, *more), daemon=True) for rank in range(count)]
    for child in children:
        child.start()
    results: list[float] = []
    latest = time.monotonic() + 300
    try:
        while len(results) < count:
            if time.monotonic() > latest:
                raise TimeoutError("the processes do not end")
            with contextlib.suppress(queue.Empty):
                results.append(found.get(timeout=1))
            if any(child.exitcode for child in children):
                raise RuntimeError("one of the processes ended badly: its traceback is above")
    finally:
        for child in children:
            child.join() if len(results) == count else child.terminate()
    return results


def _one_of_them(rank: int, count: int, kind: str, small: bool, work: Any, together: Any, found: Any) -> None:
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(20_000 + os.getppid() % 20_000)}
    os.environ.update(address, RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(count))
    device = torch.device(kind)
    torch.backends.cudnn.benchmark = True  # as in trainings
    found.put(work(Visit(device, small, load(None, device, small)[0]), together))


def _train_for_a_while(visit: Visit, together: Any) -> float:
    """Return the images per second."""
    step, batches = begin(visit, "cds_released")
    stream, steps = endless(batches), 0
    for batch in islice(stream, 2 if visit.small else 50):
        loss_of(step, batch)
    visit.now()
    together.wait()
    began = time.perf_counter()
    while time.perf_counter() < began + (0.2 if visit.small else 10):
        loss_of(step, next(stream))
        steps += 1
        if steps % 50 == 0:
            visit.now()  # else the host would run thousands of steps ahead
    return steps * batches.batch_size / (visit.now() - began)


def _gradient_of_two(visit: Visit, together: Any) -> float:
    """Return the relative difference of the gradient from that of one process."""
    torch.backends.cudnn.allow_tf32 = False  # half batches may get other kernels; TF32 would make them differ more
    with distributed.joined(visit.device.type) as (group, device):
        visit.images = [tensor.to(device) for tensor in visit.images]
        budget = budget_of(visit, precision="fp32", gather=True, sync_batchnorm=visit.gpu)
        views, labels, index = next(begin(visit, "cds_released")[1].epoch(0))
        gradients = []
        for members in (distributed.Group(), group):
            step = Step(create("cds_released", budget), budget, device=device, group=members)
            for module in step.method.modules() if not visit.gpu else ():  # a CPU cannot synchronise batch norms
                module.train(not isinstance(module, nn.BatchNorm2d))
            members.begin_step(len(index))
            own = members.share.of(len(index))
            losses = step.losses(*(view[own] for view in views), labels=labels[own])
            members.weighted(sum(losses.values())).backward()
            gradients.append(torch.cat([p.grad.flatten() for p in step.method.parameters()]).clone())
        return ((gradients[1] - gradients[0]).norm() / gradients[0].norm()).item()


def check_decoding(visit: Visit) -> None:
    """Measure how fast worker processes turn JPEGs of 500 x 375 into two views of 224."""
    from cds_lib.study.data.stream import StreamedBatches

    count, unique, size = (16, 4, 4) if visit.small else (8000, 50, 50)
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        for n in range(unique):
            coarse = Image.fromarray(random.integers(0, 256, (47, 63, 3), np.uint8))
            coarse.resize((500, 375), Image.Resampling.BICUBIC).save(Path(folder) / f"{n}.jpg", quality=90)
        files = [Path(folder) / f"{n % unique}.jpg" for n in range(count)]
        order = {"batch_size": size, "seed": 0, "views": 2, "augmentation": "imagenet", "size": 224}
        labels = torch.zeros(count, dtype=torch.int64, device=visit.device)
        for workers in (0,) if visit.small else [n for n in (4, 8, 16) if n <= (os.cpu_count() or 1)]:
            batches = StreamedBatches(files, labels, **order, device=visit.device, workers=workers)
            arrived = [visit.now() for _ in batches.epoch(0)]
            rate = size * (len(arrived) - 1) / (arrived[-1] - arrived[0])
            visit.say("decoding", f"{workers} workers: images a second", rate)
            visit.say("decoding", f"{workers} workers: a second and worker", rate / max(1, workers), expected="250-400")


# -- the pair ----------------------------------------------------------------------------------------------------------
def train_pair(visit: Visit) -> None:
    """Train CDS (cross-entropy of both views, released weight) and its control on a shortened schedule."""
    whole = budget_of(visit)
    epoch = len(visit.images[1]) / whole.batch_size * visit.step_seconds
    budgets = [whole.shortened(n) for n in ((150,) if visit.small else (5, 10, 15, 20, 30, 50, 100))]
    apart = 30 + 150 * visit.compiled  # seconds, most of them for graphs
    fitting = [budget for budget in budgets if visit.small or 1.15 * 2 * budget.epochs * epoch + apart < visit.left]
    if not fitting:
        return visit.say("pair", "not run", f"{2 * budgets[-1].epochs} epochs do not fit")
    case, top1 = f"pair, shortened schedule: {fitting[0].epochs} of {whole.epochs} epochs", {}
    for arm in PAIR:
        with tempfile.TemporaryDirectory() as folder:
            rows, seconds = _fit(
                visit, arm, fitting[0], Path(folder) / "c.pt", compile_method=visit.compiled and visit.gpu
            )
        top1[arm] = rows[-1]["test_top1"]
        visit.say(case, f"{arm}: test top-1, %", top1[arm])
        visit.say(case, f"{arm}: training loss", rows[-1]["train_loss"], 0, 20)
        visit.say(case, f"{arm}: minutes", seconds / 60)
    return visit.say(case, "CDS - control, points, of one seed", top1[PAIR[0]] - top1[PAIR[1]])


# Each check with a guess of the seconds it takes on one H100.
CHECKS: tuple[tuple[Callable[[Visit], None], float], ...] = (
    (check_loss, 15),
    (check_views, 10),
    (check_steps, 40),
    (check_precision, 20),
    (check_resume, 40),
    (check_compiled, 150),
    (check_two_runs, 70),
    (check_decoding, 45),
    (check_processes, 60),
    (train_pair, 60),
)


def main(argv: list[str] | None = None) -> int:
    """Run the checks. Return 1 if a result misses its range or a check breaks, 2 if none could begin."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a data root that holds CIFAR-100, or a folder of sheets of images")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--small", action="store_true", help="narrow networks, few images: shows that the checks work")
    options = parser.parse_args(argv)
    device, ends = torch.device(options.device), time.monotonic() + 60 * options.minutes
    try:
        if options.device == "cuda" and not torch.cuda.is_available():
            raise UsageError("PyTorch sees no GPU here: give --device cpu --small to try the checks.")
        images, note = load(options.data, device, options.small)
    except UsageError as error:
        print(error, file=sys.stderr)
        return 2
    visit, about = Visit(device, options.small, images, options.data is not None, ends), machine(device)
    print(json.dumps({**about, "data": note}), flush=True)
    torch.backends.cudnn.benchmark = True  # as in trainings
    try:
        for check, seconds in CHECKS:
            name = check.__name__.removeprefix("check_")
            seconds = 0 if visit.small else seconds
            if seconds > visit.left:
                visit.say(name, "not run", f"it takes {seconds} s, {max(0, visit.left):.0f} are left")
            elif check is check_processes and visit.gpu and torch.cuda.device_count() < 2:
                visit.say(name, "not run", "it needs two GPUs")
            elif check is train_pair and not visit.real:
                visit.say(name, "not run", "it needs real images (--data)")
            else:
                try:
                    check(visit)
                except ImportError as error:
                    visit.say(name, "not run", str(error))
                except Exception as error:
                    first = (str(error).strip() or "no message").splitlines()[0]
                    visit.say(name, f"broke ({type(error).__name__}: {first})", 1, 0, 0)
    finally:
        print(
            f"\n{table(visit, ', '.join(f'{key} {value}' for key, value in about.items()) + '; ' + note)}", flush=True
        )
    return int(any(result.get("ok") is False for result in visit.results))


if __name__ == "__main__":
    sys.exit(main())
