"""Laws of the house: what the source of a package says about imports, warnings and sizes, read without running it.

Each law is a function from a :class:`Package` to its violations, one line each, beginning with the file and the line
number. ``test_layers.py`` applies them to skdevae, and to tiny packages that break them.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

#: where an import stands: it runs with its module, when a function is called, or never (under ``TYPE_CHECKING``)
Place = Literal["module", "function", "typing"]


@dataclass(frozen=True)
class Import:
    """One name, or one module, that an import statement asks for."""

    target: str  # full name of the module
    name: str | None  # what is taken from it; None for the module itself
    place: Place
    line: int


@dataclass(frozen=True)
class Module:
    """A module's source."""

    name: str
    path: Path
    is_package: bool

    @cached_property
    def source(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.source, str(self.path))

    @cached_property
    def imports(self) -> list[Import]:
        package = self.name if self.is_package else self.name.rpartition(".")[0]
        return list(_imports(self.tree, package, "module"))

    def at(self, line: int) -> str:
        return f"{self.path.as_posix()}:{line}"


@dataclass(frozen=True)
class Package:
    """All modules of a package, by their full names."""

    name: str
    modules: Mapping[str, Module]

    @classmethod
    def read(cls, root: Path) -> Package:
        modules = {}
        for path in sorted(root.rglob("*.py")):
            parts = [root.name, *path.relative_to(root).with_suffix("").parts]
            is_package = parts[-1] == "__init__"
            name = ".".join(parts[:-1] if is_package else parts)
            modules[name] = Module(name, path, is_package)
        return cls(root.name, modules)

    def is_own(self, module: str) -> bool:
        return module.partition(".")[0] == self.name

    def part(self, module: str) -> str:
        """The package or module right below the root to which a module belongs; the root's name for itself."""
        parts = module.split(".")
        return parts[1] if len(parts) > 1 else self.name

    def own_imports(self, module: Module) -> Iterator[tuple[str, Import]]:
        """Modules of this package that a module names, with the import."""
        for found in module.imports:
            if self.is_own(found.target):
                submodule = f"{found.target}.{found.name}"
                yield (submodule if submodule in self.modules else found.target), found

    def needs(self, module: Module) -> set[str]:
        """Modules of this package that Python runs for a module's imports.

        ``from ..nn.rows import Rows`` runs ``nn/__init__.py`` too. Packages around the importing module are under way
        already when it is imported, so that these count only where a name is taken from them.
        """
        around = set(_parents(module.name))
        found = set()
        for target, _ in self.own_imports(module):
            found |= {target} | (set(_parents(target)) - around)
        return found - {module.name}


def _parents(module: str) -> list[str]:
    """Names of the packages around a module, and for a package itself: those around it."""
    parts = module.split(".")
    return [".".join(parts[:n]) for n in range(1, len(parts))]


def _imports(node: ast.AST, package: str, place: Place) -> Iterator[Import]:
    match node:
        case ast.Import(names=names):
            yield from (Import(alias.name, None, place, node.lineno) for alias in names)
        case ast.ImportFrom(module=module, names=names, level=level):
            target = _absolute(package, module, level)
            yield from (Import(target, alias.name, place, node.lineno) for alias in names)
        case ast.If(test=ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING")):
            for child in node.body:
                yield from _imports(child, package, "typing")
            for child in node.orelse:
                yield from _imports(child, package, place)
        case _:
            functions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
            inside: Place = "function" if isinstance(node, functions) and place == "module" else place
            for child in ast.iter_child_nodes(node):
                yield from _imports(child, package, inside)


def _absolute(package: str, module: str | None, level: int) -> str:
    """The full name in ``from ..module import name``, where level is the number of dots."""
    if level == 0:
        return module or ""
    base = package.split(".")[: len(package.split(".")) - (level - 1)]
    return ".".join([*base, *([module] if module else [])])


# ---- laws ------------------------------------------------------------------------------------------------------------


def imports_that_do_not_run_down(
    package: Package, layers: Sequence[Collection[str]], only: Mapping[str, Collection[str]]
) -> list[str]:
    """Imports of parts that are not in a lower layer. Parts of one layer do not import each other.

    Parameters
    ----------
    layers
        Names of the parts of the package, lowest layer first.
    only
        All the parts that a part may import, for those that may import less than everything below them.
    """
    rank = {part: number for number, layer in enumerate(layers) for part in layer}
    found = []
    for module in package.modules.values():
        own = package.part(module.name)
        if own not in rank:
            found.append(f"{module.at(1)}: no layer is named for {own}")
            continue
        for target, imported in package.own_imports(module):
            part = package.part(target)
            if part == own:
                continue
            where = f"{module.at(imported.line)}: {own} imports {part}"
            if part not in rank:
                found.append(f"{where}, for which no layer is named")
            elif rank[part] >= rank[own]:
                found.append(f"{where}, which is not in a lower layer")
            elif own in only and part not in only[own]:
                found.append(f"{where}, and may import {' and '.join(sorted(only[own])) or 'no other part'} alone")
    return found


def circles(package: Package) -> list[str]:
    """Sets of modules each of which needs all others, under ``TYPE_CHECKING`` and inside functions too."""
    needs = {name: package.needs(module) & set(package.modules) for name, module in package.modules.items()}
    reached = {name: _reachable(name, needs) for name in needs}
    found = {frozenset(other for other in reached[name] if name in reached[other]) for name in needs}
    return [f"{package.name}: these import each other: {', '.join(sorted(circle))}" for circle in found if circle]


def _reachable(name: str, needs: Mapping[str, set[str]]) -> set[str]:
    """All that a module needs, directly or not; the module itself only if it is on a circle."""
    found: set[str] = set()
    ahead = list(needs[name])
    while ahead:
        module = ahead.pop()
        if module not in found:
            found.add(module)
            ahead += needs[module]
    return found


def libraries_out_of_place(package: Package, allowed: Mapping[str, Collection[str]]) -> list[str]:
    """Imports of libraries, beside Python's own, that a part of the package is not meant to know."""
    return [
        f"{module.at(found.line)}: {package.part(module.name)} imports {library}"
        for module in package.modules.values()
        for found in module.imports
        if (library := found.target.partition(".")[0]) not in sys.stdlib_module_names
        and not package.is_own(library)
        and library not in allowed.get(package.part(module.name), ())
    ]


def torch_modules_that_know_more(package: Package, forbidden: Collection[str]) -> list[str]:
    """Imports of these libraries, or of modules by these names, in files with subclasses of ``nn.Module``."""
    found = []
    for module in package.modules.values():
        classes = [node for node in ast.walk(module.tree) if isinstance(node, ast.ClassDef)]
        bases = {ast.unparse(base) for node in classes for base in node.bases}
        if not bases & {"Module", "nn.Module", "torch.nn.Module"}:
            continue
        found += [
            f"{module.at(imported.line)}: a file with torch modules imports {imported.target}"
            for imported in module.imports
            if set(forbidden) & {imported.target.partition(".")[0], imported.target.rpartition(".")[2], imported.name}
        ]
    return found


def private_names(package: Package, library: str, allowed_in: str) -> list[str]:
    """Private names, and names of private modules, of a library that are imported elsewhere than in one module."""

    def is_private(name: str) -> bool:
        return any(part.startswith("_") and not part.startswith("__") for part in name.split("."))

    return [
        f"{module.at(found.line)}: imports {'.'.join(filter(None, (found.target, found.name)))}"
        for module in package.modules.values()
        if module.name != allowed_in
        for found in module.imports
        if found.target.partition(".")[0] == library and (is_private(found.target) or is_private(found.name or ""))
    ]


def warnings_given(package: Package, allowed_in: str) -> list[str]:
    """``warnings.warn``, ``warnings.warn_explicit`` and arguments ``stacklevel=`` elsewhere than in one module."""
    givers = {"warn", "warn_explicit"}
    found = []
    for module in package.modules.values():
        if module.name == allowed_in:
            continue
        for node in ast.walk(module.tree):
            match node:
                case ast.Attribute(value=ast.Name(id="warnings"), attr=name) if name in givers:
                    found.append(f"{module.at(node.lineno)}: uses warnings.{name}")
                case ast.ImportFrom(module="warnings", names=names) if any(alias.name in givers for alias in names):
                    found.append(f"{module.at(node.lineno)}: imports from warnings what gives warnings")
                case ast.keyword(arg="stacklevel"):
                    found.append(f"{module.at(node.value.lineno)}: counts frames (stacklevel=)")
    return found


def early_imports(package: Package, optional: Collection[str], door: str) -> list[str]:
    """Imports of optional libraries that run with their module, or in functions of files that do not know the door.

    The door is the module of the package that imports optional libraries, with an error that says what to install.
    """
    found = []
    for module in package.modules.values():
        knows_the_door = any(target == door for target, _ in package.own_imports(module))
        for imported in module.imports:
            if imported.target.partition(".")[0] not in optional:
                continue
            where = f"{module.at(imported.line)}: imports {imported.target}"
            if imported.place == "module":
                found.append(f"{where} with its module")
            elif imported.place == "function" and not knows_the_door:
                found.append(f"{where} without {door}")
    return found


def wrong_extras(
    package: Package, function: str, extras: Mapping[str, Collection[str]], distributions: Mapping[str, str]
) -> list[str]:
    """Calls of the function that imports an optional library from an extra, where the extra does not install it.

    Parameters
    ----------
    extras
        Names of the distributions that each extra installs.
    distributions
        Of libraries that are imported under another name than they are installed by.
    """
    found = []
    for module in package.modules.values():
        for node in ast.walk(module.tree):
            match node:
                case ast.Call(func=ast.Name(id=called), args=[ast.Constant(value=str(target)), *_]) if (
                    called == function
                ):
                    library = target.partition(".")[0]
                    extra = next((ast.literal_eval(word.value) for word in node.keywords if word.arg == "extra"), None)
                    if distributions.get(library, library) not in extras.get(extra, ()):
                        found.append(f"{module.at(node.lineno)}: extra {extra!r} does not install {library}")
    return found


def long_files(package: Package, most_lines: int) -> list[str]:
    """Files with more lines than that."""
    return [
        f"{module.at(1)}: has {n} lines"
        for module in package.modules.values()
        if (n := len(module.source.splitlines())) > most_lines
    ]
