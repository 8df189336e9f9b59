import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TINY = [
    "name=wheel",
    "model.d_model=32",
    "model.d_ff=32",
    "model.n_encoder_layers=1",
    "model.n_decoder_layers=1",
    "training.max_epochs=null",
    "training.max_steps=2",
    "training.bleu_every_epochs=0",
    "final.splits=[]",
    "runtime.threads=1",
    "~monitor.curves",
]


def run(command, folder, **options):
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    run([sys.executable, "-m", "pip", "wheel", ".", "--no-deps", "--no-build-isolation", "-q", "-w", str(folder)], ROOT)
    (path,) = folder.glob("transformer-*.whl")
    return path


@pytest.fixture(scope="module")
def bin_folder(wheel, tmp_path_factory):
    """The scripts of an environment with this wheel; what it depends on is lent by the environment of the tests."""
    folder = tmp_path_factory.mktemp("environment")
    run([sys.executable, "-m", "venv", str(folder)], folder)
    python = folder / "bin" / "python"
    site = Path(run([str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], folder).strip())
    # A path named in a .pth file is searched, but its own .pth files are not read: the checkout stays out of sight.
    (site / "lent.pth").write_text(f"{sysconfig.get_path('purelib')}\n", encoding="utf-8")
    run([str(python), "-m", "pip", "install", "-q", "--no-deps", "--no-index", str(wheel)], folder)
    where = run([str(python), "-c", "import transformer; print(transformer.__file__)"], folder)
    assert Path(where.strip()).is_relative_to(folder)
    return folder / "bin"


def test_the_wheel_carries_every_config_and_module(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    configs = {f"transformer/{p.relative_to(ROOT).as_posix()}" for p in (ROOT / "configs").rglob("*.yaml")}
    modules = {p.relative_to(ROOT).as_posix() for p in (ROOT / "transformer").rglob("*.py")}
    assert configs | modules <= names
    assert len(configs) > 20


def test_installed_alone_in_an_empty_folder_the_commands_work(bin_folder, tmp_path):
    run([str(bin_folder / "transformer-train"), *TINY], tmp_path)
    assert (tmp_path / "data" / "bundled" / "train.en").is_file()
    assert (tmp_path / "saved" / "wheel" / "best" / "model.pt").is_file()
    assert (tmp_path / "results" / "wheel" / "metrics.jsonl").read_text().count("\n") == 1
    (tmp_path / "a.en").write_text("The dog sleeps.\n\nThe cat eats.\n", encoding="utf-8")
    (tmp_path / "a.de").write_text("Der Hund schläft.\n\nDie Katze isst.\n", encoding="utf-8")
    short = ["checkpoint=saved/wheel/best", "decoding=greedy", "translation.max_len_ratio=1"]
    evaluated = run(
        [str(bin_folder / "transformer-evaluate"), *short, "src=a.en", "ref=a.de", "n_bootstrap=0"], tmp_path
    )
    assert "BLEU" in evaluated
    assert (tmp_path / "results" / "wheel" / "evaluation" / "a.en.hyp.txt").read_text(encoding="utf-8").count("\n") == 3
    translated = run([str(bin_folder / "transformer-translate"), *short], tmp_path, input="The dog sleeps.\n\nYes.\n")
    assert translated.count("\n") == 3
    assert translated.split("\n")[1] == ""
