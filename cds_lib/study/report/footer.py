"""Where the numbers of a page come from, gathered from the status files of its runs."""

from collections.abc import Iterable

from cds_lib.study.report import naming
from cds_lib.study.store import Store
from cds_lib.study.text import counted, duration


def provenance_rows(store: Store, run_ids: Iterable[str]) -> list[tuple[str, str]]:
    """(label, value) lines about the finished runs among `run_ids`: code, versions, machine, data, dates, cost.

    Values that differ between runs are all listed, but for versions of the code, which are counted.
    """
    finished = [run_id for run_id in run_ids if store.is_done(run_id)]
    if not finished:
        return []
    statuses = [store.status(run_id) for run_id in finished]
    dates = sorted(status[key] for status in statuses for key in ("started", "finished") if status.get(key))
    seconds = sum(store.metric(run_id, "seconds") for run_id in finished)
    versions = [", ".join(map(" ".join, status.get("versions", {}).items())) for status in statuses]
    data = [
        f"{naming.name_of(store.spec(run_id).dataset)}: {read['note']} ({read['train']} training and {read['test']} "
        f"test images, sha256 {read['sha256'][:12]})"
        for run_id, status in zip(finished, statuses, strict=True)
        if (read := status.get("data"))  # what was read, whether its checksum is the published one, how many images
    ]
    processes = _distinct(str(status.get("processes", 1)) for status in statuses)
    rows = [
        ("runs", f"{len(finished)} finished, {duration(seconds)} of training together"),
        ("code", _code([status["code"] for status in statuses if status.get("code")])),
        ("versions", _distinct(versions)),
        ("machine", _distinct(f"{status.get('machine', '')} {status.get('device', '')}" for status in statuses)),
        ("processes of a run", processes if processes != "1" else ""),
        ("data", _distinct(data)),
        ("trained", " to ".join(dict.fromkeys((dates[0], dates[-1]))) if dates else ""),
    ]
    return [(label, value) for label, value in rows if value]


def _code(versions: list[str]) -> str:
    """The version of the code, or how many there are; "+dirty" marks runs of changes that were not committed."""
    dirty = sum(version.endswith("+dirty") for version in versions)
    found = dict.fromkeys(versions)
    text = "".join(found) if len(found) < 2 else f"{len(found)} versions"
    return text + (f"; {counted(dirty, 'run')} +dirty" if dirty else "")


def _distinct(values: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(value.strip() for value in values if value.strip()))
