"""Names that a command is given: one, or several."""

from collections.abc import Sequence

from transformer.error import UserError


def names(given: object, what: str) -> list[str]:
    """One name or several, as a list."""
    found = [given] if isinstance(given, str) else list(given) if isinstance(given, Sequence) else [given]
    if not found or not all(isinstance(name, str) and name for name in found):
        raise UserError(f"{what} is {'null' if given is None else given}, but must be a name or a list of names")
    return [str(name) for name in found]
