"""--help: a command's groups and values with their meaning, read out of the YAML files themselves."""

import re
from collections.abc import Iterator, Sequence

import hydra
from omegaconf import DictConfig, OmegaConf

from transformer.config import config_dir

COLUMN = 36  # of the longest group, and of most values


def _lines(text: str, package: str) -> Iterator[tuple[str, str]]:
    """The lines of a YAML text with the dotted path of the key on each, "" where there is none."""
    above: list[tuple[int, str]] = []
    for line in text.splitlines():
        key = re.match(r"( *)(\w+):", line)
        if key is None:
            yield "", line
            continue
        above = [(indent, name) for indent, name in above if indent < len(key[1])] + [(len(key[1]), key[2])]
        yield ".".join([*filter(None, [package]), *(name for _, name in above)]), line


def _package(group: str, text: str) -> str:
    """Where the values of a group's file go: the file's first line says it, or the group, or what is behind its @."""
    said = re.match(r"# @package (\S+)", text)
    place = said[1] if said else group.split("@")[-1].replace("/", ".")
    return "" if place == "_global_" else place


def _meanings(command: str, choices: dict[str, str | None]) -> dict[str, str]:
    """Dotted path -> the comment beside it."""
    files = [("@", config_dir() / f"{command}.yaml")]
    files += [(group, config_dir() / group.split("@")[0] / f"{name}.yaml") for group, name in choices.items()]
    texts = [(group, path.read_text(encoding="utf-8")) for group, path in files if path.is_file()]
    found: dict[str, str] = {}
    for group, text in texts:
        for path, line in _lines(text, _package(group, text)):
            if path and (comment := re.search(r"\s#\s*(.*)", line)):
                found.setdefault(path, comment[1])  # what changes a value later says why, not what it is
    return found


def _choices(root: DictConfig) -> dict[str, str | None]:
    return {str(g): name for g, name in root.hydra.runtime.choices.items() if not str(g).startswith("hydra/")}


def values(command: str, root: DictConfig) -> str:
    """The composed config as YAML, each value with its meaning."""
    config = OmegaConf.masked_copy(root, [str(key) for key in root if key != "hydra"])
    meanings = _meanings(command, _choices(root))
    told = []
    for path, line in _lines(OmegaConf.to_yaml(config), ""):
        told.append(f"  {line:<{COLUMN}}  # {meanings[path]}" if path in meanings else f"  {line}")
    return "\n".join(told)


def groups(root: DictConfig) -> str:
    """One line a group that the command has: what is chosen, and what else there is."""
    told = []
    for group, chosen in sorted(_choices(root).items()):
        names = sorted(path.stem for path in (config_dir() / group.split("@")[0]).glob("*.yaml"))
        if group.startswith("data/") or names == [chosen]:  # nothing to choose
            continue
        others = ", ".join(name for name in names if name != chosen)
        told.append(f"  {f'{group}={chosen}':<{COLUMN}}  or {others}")
    return "\n".join(told)


def register() -> None:
    """Makes ${values:COMMAND} and ${groups:} known to the help pages in configs/hydra/help."""

    def escaped(text: str) -> str:
        return text.replace("$", "$$")  # for Hydra, which substitutes in what comes back

    def told_values(command: str, *, _root_: DictConfig) -> str:
        return escaped(values(command, _root_))

    def told_groups(*, _root_: DictConfig) -> str:
        return escaped(groups(_root_))

    OmegaConf.register_new_resolver("values", told_values, replace=True)
    OmegaConf.register_new_resolver("groups", told_groups, replace=True)


def is_wanted(arguments: Sequence[str]) -> bool:
    """Whether a command line asks for the page, and for nothing else of what only Hydra knows."""
    return {word for word in arguments if word.startswith("-")} in ({"--help"}, {"-h"})


def page(command: str, arguments: Sequence[str]) -> str:
    """A command's page, with the values that the command line gives them.

    It is Hydra's own, in a fifth of the time, for Hydra lists all its groups besides.

    Raises:
        what Hydra raises for a command line that does not compose.
    """
    words = [word for word in arguments if not word.startswith("-")]
    with hydra.initialize_config_dir(str(config_dir()), version_base="1.3"):
        config = hydra.compose(command, words, return_hydra_config=True)
    return str(config.hydra.help.template).replace("$$", "$")
