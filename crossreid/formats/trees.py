"""Settings as nested dicts: by dotted key, and what differs between several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def flatten(tree: Mapping, prefix: str = "") -> dict[str, object]:
    """Nested settings by dotted key: ``{"train": {"epochs": 60}}`` gives ``{"train.epochs": 60}``."""
    flat: dict[str, object] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def differences(trees: Sequence[Mapping]) -> dict[str, list]:
    """Dotted key -> its value in each tree, None where it is absent, for the settings that are not the same in all."""
    flat = [flatten(tree) for tree in trees]
    keys = dict.fromkeys(key for settings in flat for key in settings)
    values = {key: [settings.get(key) for settings in flat] for key in keys}
    return {key: each for key, each in values.items() if any(value != each[0] for value in each)}
