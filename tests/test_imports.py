"""What may import what, and what stays unloaded."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "crossreid"
# Each line may import from itself and from the lines above it (docs/project/architecture.md shows the same order).
ORDER = [
    {"records"},
    {"files", "bundled", "outside", "memory"},
    {"formats"},
    {"images", "pages"},
    {"ops"},
    {"nn", "losses"},
    {"methods"},
    {"data", "synthetic"},
    {"protocols"},
    {"engine"},
    {"checkpoint", "originals"},
    {"embedder", "embedding_files", "evaluation", "export", "fragments", "on_ray"},
    {"tracklets"},
    {"gallery", "serve"},
    {"linking"},
    {"training"},
    {"report"},
    {"config"},
    {"schema"},
    {"experiment"},
    {"demo"},
    {"commands"},
    {"__main__"},
]
# A stronger rule than the order alone.
NEVER = {
    "data": {"methods", "nn", "losses"},
    "synthetic": {"methods", "nn", "losses"},
    "report": {"training", "methods"},
}
LEVEL = {name: level for level, names in enumerate(ORDER) for name in names}


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = (
                [node.module]
                if node.module != "crossreid"
                else [f"crossreid.{alias.name}" for alias in node.names]
            )
        else:
            assert not (isinstance(node, ast.ImportFrom) and node.level), f"{path}: imports are absolute here"
            continue
        yield from (name.split(".")[1] for name in names if name.startswith("crossreid."))


def test_every_room_has_its_place_in_the_order():
    assert {room(path) for path in PACKAGE.rglob("*.py")} - {"__init__"} <= set(LEVEL)


def test_imports_follow_the_order():
    wrong = []
    for path in sorted(PACKAGE.rglob("*.py")):
        here = room(path)
        if here == "__init__":
            continue
        for there in imported(path):
            if there == "__version__":
                continue
            if LEVEL.get(there, 99) > LEVEL[here] or there in NEVER.get(here, ()):
                wrong.append(f"{path.relative_to(PACKAGE)} imports {there}")
    assert not wrong, wrong


@pytest.mark.documents
def test_the_documented_order_is_this_one():
    text = (PACKAGE.parent / "docs" / "project" / "architecture.md").read_text(encoding="utf-8")
    written = text.split("<!-- import order -->")[1].split("```")[1].strip().splitlines()
    assert [set(line.split("#")[0].replace(",", " ").split()) for line in written] == ORDER


@pytest.mark.parametrize("words", ["import crossreid", "import crossreid.__main__ as m; m.main(['--help'])"])
def test_import_and_help_load_nothing_heavy(words):
    heavy = (
        "torch",
        "torchvision",
        "timm",
        "matplotlib",
        "jinja2",
        "sklearn",
        "onnx",
        "lancedb",
        "ray",
        "accelerate",
        "scipy",
        "numba",
    )
    code = f"{words}\nimport sys\nprint([name for name in {heavy!r} if name in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip().splitlines()[-1] == "[]"


def test_reading_data_and_protocols_needs_no_torch():
    code = (
        "import crossreid.data, crossreid.protocols, crossreid.synthetic, sys; print('torch' in sys.modules)"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "False\n"
    )
