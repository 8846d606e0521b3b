"""From a reference to the class itself, and to instances whose random weights follow a seed.

Here the user's code runs for the first time, so whatever goes wrong in it becomes one
sentence with the file and line where it did. It must not know what instances compute.
"""

from __future__ import annotations

import importlib
import inspect
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from models.errors import UserError, did_you_mean
from models.own.reference import Reference
from models.own.source import OURS, Source


def load_class(reference: Reference, source: Source) -> type[nn.Module]:
    """Import the class. Raises `UserError` when there is none, or it is no torch module."""
    _refuse_other_modules(source.files)
    _forget_older(reference, source)
    if str(reference.root) not in sys.path:
        # Last, so that a file of the user's can never stand in for an installed module.
        sys.path.append(str(reference.root))
    importlib.invalidate_caches()
    sentence = f"{reference.module} cannot be imported"
    with settings_kept(), in_one_sentence(sentence, reference.root):
        module = importlib.import_module(reference.module)
    _refuse_other_modules(source.files)
    found = getattr(module, reference.qualname, None)
    if found is None:
        classes = [n for n, v in vars(module).items() if _is_module_class(v)]
        none = "it defines no torch.nn.Module"
        hint = did_you_mean(reference.qualname, classes) if classes else none
        raise UserError(f'{reference.file} has no class "{reference.qualname}": {hint}.')
    if not _is_module_class(found):
        raise UserError(
            f"{reference.qualname} in {reference.file} is no torch.nn.Module; derive it from that."
        )
    _check_arguments(found, reference)
    return found  # type: ignore[no-any-return]


_LOADED: dict[str, str] = {}


def _forget_older(reference: Reference, source: Source) -> None:
    """Code that was edited since this process imported it is imported again."""
    if _LOADED.get(reference.module, source.sha256) != source.sha256:
        for name in source.files:
            if name.partition(".")[0] not in OURS:
                sys.modules.pop(name, None)
    _LOADED[reference.module] = source.sha256


def _is_module_class(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, nn.Module)


def _refuse_other_modules(files: Mapping[str, Path]) -> None:
    """A module of that name from another file would be run instead of the one that was read."""
    for name, file in files.items():
        loaded = getattr(sys.modules.get(name), "__file__", None)
        if loaded is not None and Path(loaded).resolve() != file.resolve():
            raise UserError(
                f"{file} cannot be imported as {name}: {loaded} has that name already; "
                "rename the file."
            )


def _check_arguments(found: type[nn.Module], reference: Reference) -> None:
    own = found.__init__ is not nn.Module.__init__  # which takes anything, and refuses it later
    parameters = list(inspect.signature(found.__init__).parameters.values())[1:] if own else []
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    names = [p.name for p in named if p.name not in reference.fixed]
    takes_any = any(p.kind == p.VAR_KEYWORD for p in parameters)
    for name in reference.options:
        if name not in names and not takes_any:
            raise UserError(
                f'{reference.shown} has no option "{name}": '
                + (f"{did_you_mean(name, names)}." if names else "its constructor takes none.")
            )
    missing = [p.name for p in named if p.default is p.empty and p.name not in reference.arguments]
    if missing:
        raise UserError(
            f"The constructor of {reference.shown} needs {', '.join(missing)}; give it as an "
            f"option ({missing[0]}=...), or a default in the class."
        )


def construct(found: type[nn.Module], reference: Reference, seed: int) -> nn.Module:
    """An instance on the CPU, in evaluation mode, its random weights drawn from ``seed``.

    Torch's global random state is left as it was.
    """
    with settings_kept(), torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.manual_seed(seed)
        with in_one_sentence(f"{reference.shown} cannot be made", reference.root):
            made = found(**reference.arguments)
    return made.eval()


@contextmanager
def settings_kept() -> Iterator[None]:
    """Torch's process-wide settings as they were, whatever the user's code makes of them.

    Other variants run in the same process, and no key of theirs knows of this class.
    """
    dtype, precision = torch.get_default_dtype(), torch.get_float32_matmul_precision()
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_default_dtype(dtype)
        torch.set_float32_matmul_precision(precision)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)


@contextmanager
def in_one_sentence(what: str, root: Path) -> Iterator[None]:
    """Whatever the user's code raises inside becomes one sentence that says where."""
    try:
        yield
    except (UserError, KeyboardInterrupt):
        raise
    except Exception as error:
        own = [
            frame
            for frame in traceback.extract_tb(error.__traceback__)
            if Path(frame.filename).is_relative_to(root)
        ]
        where = f" at {own[-1].filename}:{own[-1].lineno}" if own else ""
        said = " ".join(str(error).split()) or "no message"
        raise UserError(
            f"{what}: {type(error).__name__}{where}: {said[:300].rstrip('.')}."
        ) from error
