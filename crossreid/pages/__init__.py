"""The HTML that is written into files: Jinja2 templates, and one look for all of them.

A page asks for nothing from elsewhere: its style and images are inside it, and it has no script. All text is escaped.
"""

from __future__ import annotations

import functools
from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment


def render(template: str, **about) -> str:
    """The page that a template of this folder makes of what it is given."""
    style = resources.files(__name__).joinpath("page.css").read_text(encoding="utf-8")
    return _environment().get_template(template).render(style=style, **about)


@functools.cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("crossreid", "pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["breakable"] = breakable
    return environment


def breakable(text: object):
    """Text that may be broken behind its dots, underscores and slashes, and so is not inside its words."""
    from markupsafe import Markup, escape

    kept = str(escape(str(text)))
    for sign in "._/":
        kept = kept.replace(sign, f"{sign}<wbr>")
    return Markup(kept)
