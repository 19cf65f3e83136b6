"""The font of figures: a small copy of matplotlib's DejaVu Sans."""

from __future__ import annotations

import atexit
import functools
import itertools
import shutil
import tempfile
from pathlib import Path

from fontTools import subset
from matplotlib import font_manager

ORIGINAL, COPY = "DejaVu Sans", "DejaVu Sans of crossreid"
# Latin with accents, Greek, punctuation, arrows, signs of mathematics.
_CHARACTERS = (
    *(range(0x20, 0x7F), range(0xA0, 0x250), range(0x370, 0x400)),
    *(range(0x2010, 0x2040), range(0x2190, 0x2194), range(0x2200, 0x2270)),
)


@functools.cache
def family() -> list[str]:
    """Names of fonts to draw with, the next one where a character is missing.

    matplotlib reads a font whole, and cuts it to what is written, for each PDF file; with the six thousand glyphs of
    DejaVu Sans that is a large part of a figure's time (``benchmarks/figures.py``). So a copy of the glyphs that nearly
    all texts have is made once in a process, with their kerning and without ligatures, in a folder that goes away with
    the process.
    """
    folder = Path(tempfile.mkdtemp(prefix="crossreid-font-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    options = subset.Options(layout_features=["kern"], glyph_names=False, name_IDs=["*"])
    options.drop_tables += ["GSUB", "FFTM", "MATH"]
    for weight in ("normal", "bold"):
        found = font_manager.findfont(font_manager.FontProperties(family=ORIGINAL, weight=weight))
        font = subset.load_font(str(found), options)
        cut = subset.Subsetter(options)
        cut.populate(unicodes=itertools.chain(*_CHARACTERS))
        cut.subset(font)
        for name in font["name"].names:
            name.string = str(name).replace(ORIGINAL, COPY)
        font.save(folder / f"{weight}.ttf")
        font_manager.fontManager.addfont(folder / f"{weight}.ttf")
    return [COPY, ORIGINAL]
