"""Print the import river: the rooms of both packages, in the order in which imports flow.

A line for each room: its lines of code, and the rooms that it imports. `make river` prints it, and
`make lint` holds it. Absent: a verdict.
"""

import ast
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    for contract in settings["tool"]["importlinter"]["contracts"]:
        if contract["type"] != "layers":
            continue
        [package] = contract["containers"]
        rooms = [layer.strip("()") for layer in reversed(contract["layers"])]
        rooms = [room for room in rooms if path_of(package, room).exists()]
        width = max(len(room) for room in rooms)
        print(f"\n{package}: {len(rooms)} rooms; a room imports only rooms above it\n")
        for room in rooms:
            lines = sum(
                len(file.read_text("utf-8").splitlines()) for file in files_of(package, room)
            )
            inside = sorted(imports_of(package, room, package), key=rooms.index)
            outside = sorted(imports_of(package, room, "edda")) if package != "edda" else []
            flows = " ".join(inside) + (f"  | edda: {' '.join(outside)}" if outside else "")
            print(f"  {room:{width}} {lines:5}  {flows}")


def path_of(package: str, room: str) -> Path:
    """The file of a room, or its folder."""
    folder = ROOT / package / room
    return folder if folder.is_dir() else folder.with_suffix(".py")


def files_of(package: str, room: str) -> list[Path]:
    """The sources of a room."""
    path = path_of(package, room)
    return sorted(path.rglob("*.py")) if path.is_dir() else [path]


def imports_of(package: str, room: str, of: str) -> set[str]:
    """The rooms of a package that a room imports."""
    names = set()
    for file in files_of(package, room):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module)
                if node.module == of:
                    names |= {f"{of}.{alias.name}" for alias in node.names}
            elif isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
    found = {name.split(".")[1] for name in names if name.startswith(f"{of}.")}
    return {name for name in found if path_of(of, name).exists() and (of, name) != (package, room)}


if __name__ == "__main__":
    main()
