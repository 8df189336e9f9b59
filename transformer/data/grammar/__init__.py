"""A grammar of our own that makes the bundled English-German corpus."""

from pathlib import Path


def write_bundled(folder: Path) -> None:
    """Write the eight files of the bundled corpus into a folder, made if missing."""
    # here, so that `python -m transformer.data.grammar.generate` does not find itself already imported
    from transformer.data.grammar.generate import write

    write(folder)
