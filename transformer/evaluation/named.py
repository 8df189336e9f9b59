"""sacreBLEU's named test sets, such as wmt14: from its folder on disk, or fetched by it."""

import contextlib
import io
from pathlib import Path

import sacrebleu
from sacrebleu.dataset import DATASETS

from transformer.error import UserError


def named_set(name: str, src_language: str, tgt_language: str) -> tuple[Path, Path]:
    """The source and the reference file of a test set, line by line translations of each other.

    Raises:
        UserError: there is no such set or language pair, it has several references, or it cannot be had.
    """
    langpair = f"{src_language}-{tgt_language}"
    if name not in DATASETS:
        raise UserError(f"sacrebleu has no test set {name}; `sacrebleu --list` shows what it has")
    if langpair not in DATASETS[name].langpairs:
        raise UserError(
            f"test set {name} has no {langpair}, but {', '.join(sorted(DATASETS[name].langpairs))}; "
            "languages are those of the checkpoint's corpus (data.src_language, data.tgt_language)"
        )
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            source = sacrebleu.get_source_file(name, langpair)
            references = sacrebleu.get_reference_files(name, langpair)
    except (OSError, SystemExit) as error:  # so ends sacrebleu's download
        reason = str(getattr(error, "reason", error))
        raise UserError(
            f"test set {name} {langpair} is not on disk and cannot be fetched ({reason}); run `sacrebleu -t {name} "
            f"-l {langpair} --echo src` where there is a network, or give the files with src and ref"
        ) from error
    if len(references) != 1:
        raise UserError(f"test set {name} {langpair} has {len(references)} references; give one with src and ref")
    return Path(source), Path(references[0])
