"""Leaves of a config, a `_target_` with its arguments: checked before anything is built from them.

Checkpoint configs travel between people, and a `_target_` can name any callable: only classes that this package or
torch.optim defines may be built, and only with arguments that fit.
"""

import importlib
import inspect
import re
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Union

from transformer.error import UserError

ALLOWED = ("transformer.", "torch.optim.")
_KEYWORDS = {"_target_", "_partial_"}


def _is_leaf(value: object) -> bool:
    return isinstance(value, Mapping) and "_target_" in value


def _target(leaf: Mapping[str, Any], where: str) -> type:
    """The class that a leaf names, if a config may name it: defined in this package or in torch.optim."""
    path = leaf["_target_"]
    if not isinstance(path, str) or not path.startswith(ALLOWED):
        raise UserError(
            f"{where}._target_ is {path}; only classes of {' and '.join(ALLOWED)} may be built from a config"
        )
    module, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, ValueError, AttributeError) as error:
        raise UserError(f"{where}._target_ names {path}, which does not exist") from error
    # A module of ours also shows what it imported: what counts is where the class is defined.
    if not isinstance(found, type) or not f"{found.__module__}.".startswith(ALLOWED):
        raise UserError(
            f"{where}._target_ is {path}; only classes of {' and '.join(ALLOWED)} may be built from a config"
        )
    return found


def _families(hint: Any) -> tuple[type, ...]:
    """The classes anywhere in an annotation that a config may build."""
    if typing.get_origin(hint) is None and isinstance(hint, type):
        return (hint,) if f"{hint.__module__}.".startswith(ALLOWED) else ()
    return tuple(family for argument in typing.get_args(hint) for family in _families(argument))


def _fits(value: object, hint: Any) -> bool:
    """Whether a value of a config can be an argument of the annotated type; leaves are looked into by `check`."""
    if _is_leaf(value):
        return bool(_families(hint))
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, option) for option in arguments)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return isinstance(value, Mapping) and all(_fits(item, arguments[1]) for item in value.values())
    if isinstance(origin, type) and issubclass(origin, Iterable):
        if not isinstance(value, (list, tuple)):
            return False
        if origin is tuple and Ellipsis not in arguments:
            return len(value) == len(arguments) and all(map(_fits, value, arguments))
        return all(_fits(item, arguments[0]) for item in value)
    if hint in (int, float):
        return isinstance(value, (int, hint)) and not isinstance(value, bool)
    return isinstance(value, hint) if isinstance(hint, type) else True


def _told(hint: Any) -> str:
    """An annotation in words."""
    if typing.get_origin(hint) in (Union, types.UnionType):
        return " or ".join(_told(option) for option in typing.get_args(hint))
    if hint is type(None):
        return "null"
    if typing.get_origin(hint) is None and isinstance(hint, type):
        return hint.__name__
    return re.sub(r"[\w.]+\.(\w+)", r"\1", str(hint))


def _inside(value: object, where: str) -> Iterator[tuple[str, object]]:
    """Everything in an argument's value that is a leaf or no container, with its place; leaves are not entered."""
    if isinstance(value, Mapping) and not _is_leaf(value):
        for key, item in value.items():
            yield from _inside(item, f"{where}.{key}")
    elif isinstance(value, (list, tuple)):
        for place, item in enumerate(value):
            yield from _inside(item, f"{where}[{place}]")
    else:
        yield where, value


def check(leaf: Mapping[str, Any], where: str, family: type | tuple[type, ...], partial: bool = False) -> None:
    """Checks a leaf before anything is built from it: target, argument names, argument types, leaves inside.

    Args:
        leaf: `_target_` and its arguments, interpolations resolved.
        where: its place in the config, for messages.
        family: the base class, or one of several, that the target must have.
        partial: whether the leaf must, or must not, say `_partial_: true`.

    Raises:
        UserError: naming the key and, for a wrong value, the value and what is expected.
    """
    if not _is_leaf(leaf):
        raise UserError(f"{where} must be a mapping with _target_, not {leaf!r}; choose one of its group")
    target = _target(leaf, where)
    if not issubclass(target, family):
        raise UserError(f"{where}._target_ is {leaf['_target_']}, which is no {_names(family)}")
    if leaf.get("_partial_", False) is not partial:
        raise UserError(f"{where}._partial_ must be {str(partial).lower()}, not {leaf.get('_partial_', False)!r}")
    signature = inspect.signature(target.__init__).parameters.values()
    known = [p.name for p in signature if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name != "self"]
    hints = typing.get_type_hints(target.__init__)
    for name, value in leaf.items():
        if name in _KEYWORDS:
            continue
        if name not in known:
            told = f"{where} has no argument {name!r}; {leaf['_target_']} takes: {', '.join(known) or 'none'}"
            if "[" not in where:  # Hydra takes nothing out of a list
                told += f"; where an experiment sets it, ~{where}.{name} takes it out"
            raise UserError(told)
        hint = hints.get(name, Any)
        if not _fits(value, hint):
            raise UserError(f"{where}.{name} is {value!r}, but must be {_told(hint)}")
        for place, item in _inside(value, f"{where}.{name}"):
            if _is_leaf(item):
                check(typing.cast(Mapping[str, Any], item), place, _families(hint))
            # Hydra resolves once more what it builds: an interpolation that was hidden from us could become a leaf.
            elif isinstance(item, str) and "${" in item:
                raise UserError(f"{place} is {item!r}, which is still an interpolation; write the value itself")


def _names(family: type | tuple[type, ...]) -> str:
    return " or ".join(f.__name__ for f in family) if isinstance(family, tuple) else family.__name__
