"""The true on-disk layouts and file names of the data sets, by name."""

from crossreid.synthetic.layout_containers import cuhk03, cuhk_sysu
from crossreid.synthetic.layout_infrared import llcm, regdb, sysu_mm01
from crossreid.synthetic.layout_partial import occluded_duke, partial_ilids, partial_reid
from crossreid.synthetic.layout_small import (
    caviar4reid,
    cuhk01,
    grid,
    ilids,
    pes3d,
    pku_reid,
    prid450s,
    prid2011,
    sensereid,
    viper,
)
from crossreid.synthetic.layout_video import ilids_vid, lpw, mars
from crossreid.synthetic.layout_visible import (
    csv,
    cuhk02,
    dukemtmc,
    folder,
    market1501,
    market1501_500k,
    msmt17,
)

# Name -> function (identities, images of each in each camera or None, seed) -> Plan
LAYOUTS = {
    "market1501": market1501,
    "market1501_500k": market1501_500k,
    "dukemtmc": dukemtmc,
    "occluded_duke": occluded_duke,
    "msmt17": msmt17,
    "cuhk01": cuhk01,
    "cuhk02": cuhk02,
    "cuhk03": cuhk03,
    "cuhk_sysu": cuhk_sysu,
    "grid": grid,
    "prid2011": prid2011,
    "ilids": ilids,
    "viper": viper,
    "prid450s": prid450s,
    "pku_reid": pku_reid,
    "sensereid": sensereid,
    "caviar4reid": caviar4reid,
    "pes3d": pes3d,
    "lpw": lpw,
    "mars": mars,
    "ilids_vid": ilids_vid,
    "partial_reid": partial_reid,
    "partial_ilids": partial_ilids,
    "sysu_mm01": sysu_mm01,
    "regdb": regdb,
    "llcm": llcm,
    "folder": folder,
    "csv": csv,
}
