"""Where the fields of a YAML file stand, so that an error can name file, line and field."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path

import msgspec
import yaml

from dataflows.errors import TidegateError

_UNKNOWN = re.compile(r"unknown field `([^`]+)`")
_NO_MEMBER = re.compile(r"invalid enum value '([^']*)'")
_LAST_PART = re.compile(r"(\.[^.\[]+|\[\d*\.*\]|^[^.\[]+)$")


def yaml_files(folder: Path, what: str, make: Callable[[str], TidegateError]) -> list[Path]:
    """The files of a folder by name, .yml among them; `make` makes the error if it is unreadable,
    which `what` says could not be read."""
    try:
        return sorted(path for path in folder.iterdir() if path.suffix in (".yaml", ".yml"))
    except OSError as error:
        raise make(f"{folder}: no {what} can be read here ({error.strerror})") from error


class Places:
    """The fields of one file by path, as `features[2].window`; `make` makes its errors.

    Raises such an error if the text is no YAML mapping, or gives a field twice.
    """

    def __init__(self, text: str, source: str, make: Callable[[str], TidegateError]) -> None:
        self._source, self._make = source, make
        self._lines: dict[str, int] = {}
        try:
            node = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            line = f":{mark.line + 1}" if mark else ""
            what = getattr(error, "problem", None) or str(error).splitlines()[0]
            raise make(f"{source}{line}: not YAML: {what}") from error
        if not isinstance(node, yaml.MappingNode):
            raise make(f"{source}: is not made of `field: value` lines: look at one that is")
        self._walk(node, "")

    def _walk(self, node: yaml.Node, path: str) -> None:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                name = f"{path}.{key.value}" if path else str(key.value)
                line = key.start_mark.line + 1
                if name in self._lines:
                    raise self._make(f"{self._source}:{line}: {name}: given twice, keep one")
                self._lines[name] = line
                self._walk(value, name)
        elif isinstance(node, yaml.SequenceNode):
            for number, value in enumerate(node.value):
                name = f"{path}[{number}]"
                self._lines[name] = value.start_mark.line + 1
                self._walk(value, name)

    def error(self, path: str, what: str) -> TidegateError:
        """An error about a field, at its line, or at that of the nearest field around it."""
        around = path
        while around and around not in self._lines:
            around = _LAST_PART.sub("", around)
        line = f":{self._lines[around]}" if around else ""
        return self._make(f"{self._source}{line}: {path}: {what}")

    def invalid(
        self,
        error: msgspec.ValidationError,
        members: Callable[[str], tuple[str, ...]],
        choices: Mapping[str, type[StrEnum]],
    ) -> TidegateError:
        """What msgspec says about a value; `members` gives those that an object at a path has,
        `choices` what a field with this name may be."""
        what, _, path = str(error).partition(" - at `$")
        path = path.strip("`").lstrip(".")
        if unknown := _UNKNOWN.search(what):
            name = f"{path}.{unknown[1]}" if path else unknown[1]
            known = ", ".join(members(path))
            return self.error(name, f"there is no such field: there are {known}")
        choice = choices.get(path.rpartition(".")[2])
        if choice and (said := _NO_MEMBER.search(what.replace("Invalid", "invalid"))):
            return self.error(path, f"{said[1]!r} is none of {', '.join(choice)}")
        what = what[:1].lower() + what[1:]
        return self.error(path, what) if path else self._make(f"{self._source}: {what}")
