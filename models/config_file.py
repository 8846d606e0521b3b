"""Reads YAML that people write, and answers their mistakes with file, line and allowed values.

Suites and registry files go through here: `read` keeps the line of every value, and
`validate` turns pydantic's first complaint into one sentence. It must know nothing of
what a suite or a variant is.
"""

from __future__ import annotations

import re
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from models.errors import UserError, did_you_mean

Location = tuple[str | int, ...]
_NAME = "^[a-z0-9][a-z0-9"
"""How the pattern of a name starts, in files of every kind."""
Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class Document:
    """A parsed YAML file: its data, and the line on which each key or item stands."""

    path: Path
    data: Any
    lines: Mapping[Location, int]

    def line(self, location: Location) -> int:
        """Line of the value, or of its nearest enclosing one."""
        while location and location not in self.lines:
            location = location[:-1]
        return self.lines.get(location, 1)

    def error(self, location: Location, sentence: str) -> UserError:
        """A `UserError` that starts with ``file:line:``."""
        return UserError(f"{self.path}:{self.line(location)}: {sentence}")


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML lets a later key overwrite an earlier one in silence; here that is an error."""


def _mapping_without_repeats(loader: _UniqueKeyLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[str] = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise yaml.MarkedYAMLError(problem="a key must be a word", problem_mark=key.start_mark)
        if key.value in seen:
            raise yaml.MarkedYAMLError(
                problem=f'key "{key.value}" stands twice', problem_mark=key.start_mark
            )
        seen.add(key.value)
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


_UniqueKeyLoader.add_constructor(
    yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping_without_repeats
)


def read(path: Path) -> Document:
    """Parse a YAML mapping. Raises `UserError` when it is missing, malformed or no mapping."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file; check the path.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as text ({error}).") from None
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        # `_UniqueKeyLoader` is a SafeLoader: it builds plain data only.
        data = yaml.load(text, Loader=_UniqueKeyLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise UserError(f"{path}:{line}: not valid YAML: {error.problem}.") from None
    except yaml.YAMLError as error:
        first_line = str(error).splitlines()[0]
        raise UserError(f"{path}:1: not valid YAML: {first_line}.") from None
    if not isinstance(data, dict):
        raise UserError(f"{path}:1: expected a mapping of keys to values at the top level.")
    lines: dict[Location, int] = {}
    if node is not None:
        _collect_lines(node, (), lines)
    return Document(path, data, lines)


def _collect_lines(node: yaml.Node, location: Location, lines: dict[Location, int]) -> None:
    lines.setdefault(location, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            lines[(*location, key.value)] = key.start_mark.line + 1
            _collect_lines(value, (*location, key.value), lines)
    elif isinstance(node, yaml.SequenceNode):
        for i, item in enumerate(node.value):
            _collect_lines(item, (*location, i), lines)


def validate(model: type[Model], document: Document) -> Model:
    """Build ``model`` from the document; the first mistake becomes one `UserError`."""
    try:
        return model.model_validate(document.data)
    except ValidationError as failure:
        errors = failure.errors()
        # A misspelt key is also a missing one; the spelling is what the user can mend.
        first = next((e for e in errors if e["type"] == "extra_forbidden"), _meant(errors))
        location = _in_document(document, tuple(first["loc"]))
        raise document.error(location, _sentence(model, first, location)) from None


def _meant(errors: Sequence[Any]) -> Any:
    """The first error; of a text or a mapping, of whichever was written."""
    mapping = [e for e in errors if e["type"] != "string_type" or not isinstance(e["input"], dict)]
    return (mapping or errors)[0]


def _in_document(document: Document, location: Location) -> Location:
    """Drop the parts that pydantic adds for union members; they are no keys of the file."""
    found: Location = ()
    for part in location:
        if (*found, part) in document.lines:
            found = (*found, part)
    return found


def _sentence(model: type[BaseModel], error: Any, shown: Location) -> str:
    location: Location = tuple(error["loc"])
    where = ".".join(str(part) for part in shown)
    kind, given = error["type"], error.get("input")
    if kind == "extra_forbidden":
        allowed = _fields_at(model, location[:-1])
        return f'unknown key "{location[-1]}": {did_you_mean(str(location[-1]), allowed)}.'
    if kind == "missing":
        return f'the key "{location[-1]}" is missing{_inside(location[:-1])}; add it.'
    if kind == "literal_error":
        allowed = [item.strip(" '") for item in _listed(error["ctx"]["expected"])]
        return f'"{where}" is "{given}", which is not known: {did_you_mean(str(given), allowed)}.'
    if kind == "union_tag_invalid":
        allowed = [item.strip(" '") for item in _listed(error["ctx"]["expected_tags"])]
        tag = error["ctx"]["tag"]
        return f'"{where}" has the unknown kind "{tag}": {did_you_mean(tag, allowed)}.'
    if kind == "union_tag_not_found":
        return f'"{where}" needs a key {error["ctx"]["discriminator"]} that says its kind.'
    message = str(error["msg"]).removeprefix("Value error, ")
    told = f" (given: {given!r})" if isinstance(given, (str, int, float)) else ""
    if kind == "string_pattern_mismatch" and error["ctx"]["pattern"].startswith(_NAME):
        message, told = _about_a_name(str(given)), ""
    return f'"{where}" is not valid: {message[0].lower()}{message[1:]}{told}.'


def _about_a_name(given: str) -> str:
    written = re.sub(r"[^a-z0-9.-]+", "-", given.lower()).strip("-.")
    example = f"; write {written}" if written else ""
    return f'a name has small letters, digits, dots and dashes, not "{given}"{example}'


def _listed(text: str) -> list[str]:
    return text.replace(" or ", ", ").split(", ")


def _inside(location: Location) -> str:
    return f' in "{".".join(str(part) for part in location)}"' if location else ""


def _fields_at(model: type[BaseModel], location: Location) -> list[str]:
    """Names of the keys allowed at a location of the model, for "did you mean"."""
    candidates: list[Any] = [model]
    for part in location:
        tagged = [item for item in candidates if part in _tags(item)]
        candidates = tagged or [inner for item in candidates for inner in _step(item, part)]
    names: set[str] = set()
    for item in candidates:
        if isinstance(item, type) and issubclass(item, BaseModel):
            names.update(item.model_fields)
    return sorted(names)


def _tags(annotation: Any) -> tuple[Any, ...]:
    """Values of the ``kind`` that tells a union's members apart; pydantic puts them in ``loc``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        field = annotation.model_fields.get("kind")
        return get_args(field.annotation) if field else ()
    return ()


def _step(annotation: Any, part: str | int) -> list[Any]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        field = annotation.model_fields.get(str(part))
        return _members(field.annotation) if field else []
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is list or origin is tuple:
        return _members(args[0])
    if origin is dict:
        return _members(args[1])
    return []


def _members(annotation: Any) -> list[Any]:
    """The alternatives of a union; anything else stands for itself."""
    if get_origin(annotation) in (Union, types.UnionType):
        return [m for arg in get_args(annotation) for m in _members(arg) if m is not type(None)]
    if hasattr(annotation, "__metadata__"):
        return _members(get_args(annotation)[0])
    return [annotation]
