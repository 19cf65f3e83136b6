"""Settings, and what the training cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

from crossreid.report.figures import Section
from crossreid.report.runs import Run, differences, flatten


def settings(runs: Sequence[Run]) -> Section:
    known = [run for run in runs if run.settings]
    parts = []
    if len(known) > 1:
        changed = differences(known)
        if changed:
            head = "".join(f'<th scope="col">{escape(run.name)}</th>' for run in known)
            lines = "".join(
                f'<tr><th scope="row"><code>{escape(key)}</code></th>'
                + "".join(f'<td class="text">{_setting(value)}</td>' for value in values)
                + "</tr>"
                for key, values in changed.items()
            )
            parts.append(
                '<div class="scroll settings" tabindex="0" role="region" '
                'aria-label="Settings that differ"><table>'
                f'<caption>What differs</caption><thead><tr><th scope="col">Setting</th>{head}</tr></thead>'
                f"<tbody>{lines}</tbody></table></div>"
            )
        else:
            parts.append("<p>All settings are the same.</p>")
    for run in known:
        tables = "".join(_heading(name, value) for name, value in run.settings.items())
        opened = " open" if len(known) == 1 else ""
        title = "All settings" if len(known) == 1 else f"All settings of {run.name}"
        parts.append(
            f"<details{opened}><summary>{escape(title)}</summary>"
            f'<div class="columns">{tables}</div></details>'
        )
    return Section("Settings", "".join(parts))


def _heading(name: str, value) -> str:
    lines = flatten(value) if isinstance(value, dict) else {"": value}
    body = "".join(
        f'<tr><th scope="row"><code>{escape(str(key))}</code></th><td class="text">{_setting(each)}</td></tr>'
        for key, each in lines.items()
    )
    return (
        f'<div class="scroll settings"><table><caption>{escape(str(name))}</caption>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _setting(value) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return escape(", ".join(map(str, value)) or "none")
    return escape(str(value))


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
    lines = []
    for key, (title, told) in facts.items():
        values = [run.summary.get(key) for run in known]
        if any(value is not None for value in values):
            cells = "".join(f'<td class="text">{"–" if v is None else escape(told(v))}</td>' for v in values)
            lines.append(f'<tr><th scope="row">{title}</th>{cells}</tr>')
    if not lines:
        return Section("Cost")
    head = "".join(f'<th scope="col" class="text">{escape(run.name)}</th>' for run in known)
    return Section(
        "Cost",
        '<div class="scroll settings" tabindex="0" role="region" aria-label="Cost"><table>'
        "<caption>What the training cost</caption>"
        f'<thead><tr><th scope="col">Measure</th>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>",
    )


def _duration(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    minutes, seconds = divmod(rest, 60)
    return (
        f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
    )


def _size(count: float) -> str:
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"
