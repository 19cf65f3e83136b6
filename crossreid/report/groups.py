"""Runs of one experiment repeated: which belong together, and what their group is called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from crossreid.formats.trees import flatten
from crossreid.records import UserError, did_you_mean
from crossreid.report.runs import Run

# Repetitions of an experiment differ in these; where it ran and with how many workers is no part of it.
REPEATED = ("seed", "fold", "run")
_ELSEWHERE = ("data.roots.", "data.workers", "train.device", "train.threads")


@dataclass(frozen=True)
class Group:
    """Runs whose results are averaged; one run alone keeps its name."""

    name: str
    runs: tuple[Run, ...]


def grouped(runs: Sequence[Run], by: str | None = None) -> list[Group]:
    """The runs that differ in ``by`` alone together, in the order of their first.

    by: a setting, such as ``seed`` or ``train.seed``. None finds by itself the runs that differ in their seed or fold
    alone.
    """
    keys = {key for run in runs for key in flatten(run.settings)}
    if by is not None and not any(_one_of(key, (by,)) for key in keys):
        known = sorted({key.rpartition(".")[2] for key in keys} | keys)
        raise UserError(
            f"--group-by {by}: no run has such a setting{did_you_mean(by, known)}; expected one by which the runs "
            "differ and their results are averaged, such as seed"
        )
    free = (*((by,) if by is not None else REPEATED), "run")
    found: dict[str, list[Run]] = {}
    for number, run in enumerate(runs):
        flat = flatten(run.settings)
        fixed = {
            key: value
            for key, value in flat.items()
            if not _one_of(key, free) and not key.startswith(_ELSEWHERE)
        }
        kept = (
            repr((_evaluated(run), sorted(fixed.items(), key=str)))
            if flat and _evaluated(run)
            else str(number)
        )
        found.setdefault(kept, []).append(run)
    if by is None:  # the same run twice is no repetition
        found = {
            f"{key} {place}": part
            for key, group in found.items()
            for place, part in enumerate([group] if _differ(group) else [[run] for run in group])
        }
    together = [tuple(group) for group in found.values()]
    names = _names(together, free)
    return [Group(name, group) for name, group in zip(names, together)]


def _evaluated(run: Run) -> tuple | None:
    """By what the run was evaluated, or None where it was not."""
    rows = run.evaluation.get("rows")
    if not rows:
        return None
    return (run.evaluation.get("protocol") or {}).get("name"), tuple(
        sorted(str(row["subset"]) for row in rows)
    )


def _one_of(key: str, names: Sequence[str]) -> bool:
    return any(key == name or key.endswith(f".{name}") for name in names)


def _differ(group: Sequence[Run]) -> bool:
    values = {
        repr([(k, v) for k, v in flatten(run.settings).items() if _one_of(k, REPEATED)]) for run in group
    }
    return len(group) == len(values)


def _names(groups: Sequence[tuple[Run, ...]], free: Sequence[str]) -> list[str]:
    """Of a group its method, and where several have that, the settings in which they differ. free: the settings in
    which the runs of a group differ."""
    shared = [flatten(group[0].settings) for group in groups if len(group) > 1]
    differing = [
        key
        for key in dict.fromkeys(key for flat in shared for key in flat)
        if key != "method.name"
        and not _one_of(key, free)
        and not key.startswith(_ELSEWHERE)
        and len({repr(flat.get(key)) for flat in shared}) > 1
    ]
    names = []
    for group in groups:
        if len(group) == 1:
            names.append(group[0].name)
            continue
        flat = flatten(group[0].settings)
        method = str(group[0].evaluation.get("method") or flat.get("method.name") or "average")
        alike = [other for other in shared if other.get("method.name") == flat.get("method.name")]
        told = [
            f"{key.rpartition('.')[2]} {flat.get(key)}"
            for key in differing
            if len({repr(other.get(key)) for other in alike}) > 1
        ]
        names.append(", ".join([method, *told[:3]]))
    seen: dict[str, int] = {}
    for place, name in enumerate(names):  # what is still called alike is numbered
        seen[name] = seen.get(name, 0) + 1
        names[place] = name if seen[name] == 1 else f"{name} ({seen[name]})"
    return names
