"""Procedural people, rendered in visible light and in infrared, in the on-disk layout of any data set we
read.

write("market1501", "data/Market-1501")      a data set
render(person(1), camera(2), 0)               one image (H, W, 3) uint8
contact_sheet([1, 2, 3], [camera(1), camera(2)])
"""

from crossreid.synthetic.cameras import camera
from crossreid.synthetic.layouts import LAYOUTS
from crossreid.synthetic.people import person
from crossreid.synthetic.rendering import render
from crossreid.synthetic.sheets import contact_sheet
from crossreid.synthetic.writing import write

__all__ = ["LAYOUTS", "camera", "contact_sheet", "person", "render", "write"]
