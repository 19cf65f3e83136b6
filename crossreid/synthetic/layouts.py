"""The true on-disk layouts and file names of the data sets, by name."""

from crossreid.synthetic.layout_containers import cuhk03, cuhk_sysu
from crossreid.synthetic.layout_infrared import llcm, regdb, sysu_mm01
from crossreid.synthetic.layout_small import grid, ilids, prid2011, viper
from crossreid.synthetic.layout_visible import csv, cuhk02, dukemtmc, folder, market1501, msmt17

# Name -> function (identities, images of each in each camera or None, seed) -> Plan
LAYOUTS = {
    "market1501": market1501,
    "dukemtmc": dukemtmc,
    "msmt17": msmt17,
    "cuhk02": cuhk02,
    "cuhk03": cuhk03,
    "cuhk_sysu": cuhk_sysu,
    "grid": grid,
    "prid2011": prid2011,
    "ilids": ilids,
    "viper": viper,
    "sysu_mm01": sysu_mm01,
    "regdb": regdb,
    "llcm": llcm,
    "folder": folder,
    "csv": csv,
}
