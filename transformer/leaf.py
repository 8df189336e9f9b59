"""Leaves of a config, a `_target_` with its arguments: checked before anything is built from them.

Checkpoint configs travel between people, and a `_target_` can name any callable: only classes that this package or
torch.optim defines may be built, and only with arguments that fit.
"""

import importlib
import inspect
import types
import typing
from collections.abc import Mapping, Sequence
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


def _fits(value: object, hint: Any) -> bool:
    """Whether a plain config value can be an argument of the annotated type; what is not plain is let pass."""
    origin = typing.get_origin(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, option) for option in typing.get_args(hint))
    if origin is not None and isinstance(origin, type):
        if issubclass(origin, Mapping):
            return isinstance(value, Mapping)
        return isinstance(value, Sequence) and not isinstance(value, str) if issubclass(origin, Sequence) else True
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint) if hint in (str, bool, type(None)) else True


def check(leaf: Mapping[str, Any], where: str, family: type) -> None:
    """Checks a leaf before anything is built from it: target, argument names, argument types, leaves inside.

    Raises:
        UserError: naming the key and, for a wrong value, the value and what is expected.
    """
    if not _is_leaf(leaf):
        raise UserError(f"{where} must be a mapping with _target_, not {leaf!r}; choose one of its group")
    target = _target(leaf, where)
    if not issubclass(target, family):
        raise UserError(f"{where}._target_ is {leaf['_target_']}, which is no {family.__name__}")
    parameters = inspect.signature(target.__init__).parameters
    hints = typing.get_type_hints(target.__init__)
    for name, value in leaf.items():
        if name in _KEYWORDS:
            continue
        if name not in parameters or name == "self":
            known = ", ".join(p for p in parameters if p != "self") or "none"
            raise UserError(f"{where} has no argument {name!r}; {leaf['_target_']} takes: {known}")
        hint = hints.get(name, Any)
        if _is_leaf(value):
            check(value, f"{where}.{name}", hint if isinstance(hint, type) else object)
        elif not _fits(value, hint):
            expected = getattr(hint, "__name__", None) if isinstance(hint, type) else str(hint)
            raise UserError(f"{where}.{name} is {value!r}, but must be {expected}")
