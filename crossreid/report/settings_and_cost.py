"""Settings, and what the training cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from crossreid.formats.trees import differences, flatten
from crossreid.report.runs import Run
from crossreid.report.section import Section


def settings(runs: Sequence[Run]) -> Section:
    known = [run for run in runs if run.settings]
    changed = differences([run.settings for run in known]) if len(known) > 1 else {}
    about = {
        "names": [run.name for run in known],
        "changed": {key: [_setting(value) for value in values] for key, values in changed.items()},
        "runs": [
            {
                "name": run.name,
                "headings": {
                    str(name): {
                        str(key): _setting(each)
                        for key, each in (flatten(value) if isinstance(value, dict) else {"": value}).items()
                    }
                    for name, value in run.settings.items()
                },
            }
            for run in known
        ],
    }
    return Section("Settings", "settings.html" if known else "", about)


def _setting(value) -> str:
    if value is None or value in ([], {}, ()):
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(value)


def cost(runs: Sequence[Run]) -> Section:
    facts: dict[str, tuple[str, Callable[..., str]]] = {
        "seconds": ("Training time", _duration),
        "step_ms": ("One step", lambda value: f"{value:.1f} ms"),
        "parameters": ("Parameters", lambda value: f"{value / 1e6:.2f} million"),
        "checkpoint_bytes": ("Checkpoint", _size),
        "peak_memory_bytes": ("Peak memory", _size),
        "device": ("Device", str),
        "processes": ("Processes", str),
    }
    known = [run for run in runs if run.summary]
    lines = {}
    for key, (title, told) in facts.items():
        values = [run.summary.get(key) for run in known]
        if any(value is not None for value in values):
            lines[title] = ["–" if value is None else told(value) for value in values]
    about = {"names": [run.name for run in known], "lines": lines}
    return Section("Cost", "cost.html" if lines else "", about)


def _duration(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    minutes, seconds = divmod(rest, 60)
    return (
        f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
    )


def _size(count: float) -> str:
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"
