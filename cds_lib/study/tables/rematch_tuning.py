"""The tuning of the rematch (docs/registration.md): the same effort for every arm, on validation images alone."""

from cds_lib.study.plan.rematch import ARMS, GRID_SEED, MORE_SEEDS, VALIDATION, run, trials
from cds_lib.study.plan.table import Cell, Table, cell

_WORDS = {"lr": "learning rate", "weight_decay": "weight decay", "weight": "weight"}


def _row(arm: str, trial: dict[str, float]) -> str:
    return "_".join([arm, *(f"{name}_{trial[name]:g}" for name in ARMS[arm].searched)])


def _words(arm: str, trial: dict[str, float]) -> str:
    return ", ".join(f"{_WORDS[name]} {trial[name]:g}" for name in ARMS[arm].searched)


TRIALS = [(arm, trial) for arm in ARMS for trial in trials(arm)]


def cells(profile: str) -> list[Cell]:
    """Return one group per arm and one row per trial (in smoke, the first trial of each). Finalists have more seeds."""
    return [
        cell(
            run(profile, arm, GRID_SEED, **trial),
            (GRID_SEED, *(MORE_SEEDS if trials(arm).index(trial) in ARMS[arm].finalists else ())),
            method=_row(arm, trial),
            setting=f"rematch_{arm}",
            metric=VALIDATION,
            reference=None,
        )
        for arm, trial in TRIALS
        if profile != "smoke" or trial == trials(arm)[0]
    ]


TABLE = Table(
    title="Rematch, tuning",
    topic="twelve trials an arm, ResNet-18 on CIFAR-100, validation images",
    question="With which learning rate, weight decay and weight does each arm of the rematch do best?",
    note="nothing: registered in docs/registration.md",
    build=cells,
    names={_row(*trial): _words(*trial) for trial in TRIALS}
    | {f"rematch_{name}": arm.title for name, arm in ARMS.items()},
    own_seeds=True,
    official=False,
)
