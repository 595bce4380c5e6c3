"""Computes the units of the package, the imports between them, and their levels.

`python -m tests.structure [FOLDER]` prints them, for this checkout or another one.
"""

from __future__ import annotations

import ast
import pathlib
import sys

PACKAGE = "cellclass_tf"


def modules_of(root: pathlib.Path) -> dict[str, pathlib.Path]:
    """Returns the modules of the package by dotted name; a subpackage has that of its folder."""
    found = {}
    for path in sorted((root / PACKAGE).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts).removesuffix(".__init__")] = path
    return found


def imports_of(path: pathlib.Path) -> set[str]:
    """Returns every module that a file imports, at its top or in a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{a.name}" for a in node.names}
    return found


def module_graph(root: pathlib.Path) -> dict[str, set[str]]:
    """Returns by module the modules of the package that it imports.

    The package itself and its subpackages, which only pass names on, count as the modules that
    they name.
    """
    modules = modules_of(root)
    graph = {}
    for name, path in modules.items():
        # The package itself imports all its public names, for type checkers.
        known = imports_of(path) & set(modules) if name != PACKAGE else set()
        # `from a.b import c` imports a.b too if c is a module in it.
        graph[name] = {
            one
            for one in known - {name, PACKAGE}
            if not any(other.startswith(f"{one}.") for other in known)
        }
    return graph


def unit_of(module: str) -> str:
    """Returns the module or subpackage at the top of the package that contains a module."""
    return module.split(".")[1]


def unit_graph(root: pathlib.Path) -> dict[str, set[str]]:
    """Returns by unit the units that it imports."""
    graph: dict[str, set[str]] = {}
    for name, imported in module_graph(root).items():
        if name == PACKAGE:
            continue
        units = graph.setdefault(unit_of(name), set())
        units |= {unit_of(one) for one in imported} - {unit_of(name)}
    return graph


def cycles_of(graph: dict[str, set[str]]) -> list[set[str]]:
    """Returns the groups of two or more nodes that reach each other (Tarjan 1972)."""
    numbers: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found: list[set[str]] = []

    def visit(node: str) -> None:
        numbers[node] = lowest[node] = len(numbers)
        stack.append(node)
        for other in sorted(graph.get(node, ())):
            if other not in numbers:
                visit(other)
            if other in stack:
                lowest[node] = min(lowest[node], lowest[other])
        if lowest[node] == numbers[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(group) > 1:
                found.append(set(group))

    for node in sorted(graph):
        if node not in numbers:
            visit(node)
    return found


def levels_of(graph: dict[str, set[str]]) -> dict[str, int]:
    """Returns by node the length of the longest path down; a cycle counts as one node."""
    groups = cycles_of(graph)
    level: dict[str, int] = {}

    def of(node: str) -> int:
        if node not in level:
            group = next((g for g in groups if node in g), {node})
            below = {other for one in group for other in graph[one]} - set(group)
            height = 1 + max((of(other) for other in below), default=0)
            level.update(dict.fromkeys(group, height))
        return level[node]

    for node in graph:
        of(node)
    return level


def main(root: pathlib.Path) -> None:
    """Prints the number of units and imports, and the levels."""
    modules, units = module_graph(root), unit_graph(root)
    levels = levels_of(units)
    for level in range(max(levels.values()), 0, -1):
        print(level, *sorted(unit for unit in units if levels[unit] == level))
    lines = sum(
        len(path.read_text(encoding="utf-8").splitlines())
        for path in modules_of(root).values()
    )
    print(
        f"{len(units)} units on {max(levels.values())} levels, "
        f"{sum(map(len, units.values()))} imports between them, "
        f"{len(cycles_of(units))} cycles; {len(modules)} modules, "
        f"{sum(map(len, modules.values()))} imports, {len(cycles_of(modules))} cycles; "
        f"{lines} lines"
    )


if __name__ == "__main__":
    main(pathlib.Path(*sys.argv[1:2] or "."))
