"""One leaf of a config to one object, and what goes wrong on the way as one sentence."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import hydra.utils
from hydra.errors import InstantiationException
from omegaconf import DictConfig, OmegaConf

from transformer.data.corpus import placed
from transformer.error import UserError
from transformer.leaf import check
from transformer.training.update import out_of_memory

T = TypeVar("T")


def instantiate(leaf: Mapping[str, Any], where: str, family: type[T], partial: bool = False) -> T:
    """Builds what a leaf names.

    Args:
        leaf: `_target_` and its arguments.
        where: the leaf's place in the config, for messages.
        family: the base class that the target must have.
        partial: the leaf says `_partial_: true`, and what comes back is a factory that takes the rest.

    Raises:
        UserError: what `check` raises, or the constructor's own complaint.
    """
    if isinstance(leaf, Mapping) and not isinstance(leaf, DictConfig):
        leaf = OmegaConf.create(dict(leaf))
    plain = OmegaConf.to_container(leaf, resolve=True) if isinstance(leaf, DictConfig) else leaf
    check(cast(Mapping[str, Any], plain), where, family, partial)
    try:
        return cast(T, hydra.utils.instantiate(plain, _convert_="all"))
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, UserError):
            place = re.search(r"^full_key: (\S+)$", str(error), re.MULTILINE)  # of a corpus inside another one
            raise UserError(placed(str(cause), place[1])) if place and where == "data" else cause from error
        raise UserError(f"{where}: {cause or str(error).splitlines()[0]}") from error


@contextmanager
def explained(where: str) -> Iterator[None]:
    """Turns a constructor's ValueError, or its want of memory, into a UserError that names the part of the config."""
    try:
        yield
    except ValueError as error:
        raise UserError(f"{where}: {error}") from error
    except (RuntimeError, MemoryError, OverflowError) as error:
        if not (out_of_memory(error) or isinstance(error, OverflowError) or "overflow" in str(error).lower()):
            raise
        told = str(error).partition("\n")[0] or "memory ran out"
        raise UserError(f"{where}: too large for this machine ({told}); choose smaller sizes") from error
