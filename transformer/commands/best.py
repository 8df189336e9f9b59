"""The best config of a sweep as a file that transformer-train takes: best.yaml."""

from pathlib import Path

from omegaconf import DictConfig, OmegaConf, open_dict

from transformer.config import config_dir
from transformer.monitoring.replace import replace


def write_best(folder: Path, config: DictConfig, told: str) -> Path:
    """Writes best.yaml and prints the command that trains with it; returns its path.

    Every value stands in it, so that later changes of the shipped groups do not change it; for the same reason there is
    no group left to choose.

    Args:
        folder: results/NAME.
        config: of the training, interpolations as they are.
        told: what it is the best of, in words.
    """
    config = config.copy()
    with open_dict(config):
        config.name, config.resume, config.overwrite = f"{config.name}-best", False, False
    shipped = OmegaConf.load(config_dir() / "train.yaml")
    # Of the defaults the schema and the file itself, which are no groups, and what they make of Hydra.
    kept = [entry for entry in shipped.defaults if isinstance(entry, str) or "override hydra" in str(entry)]
    command = f"transformer-train --config-dir {folder} --config-name best"
    text = "".join(
        [
            f"# {told}. Trains it anew:\n#   {command}\n",
            OmegaConf.to_yaml(OmegaConf.create({"defaults": kept})),
            "\n",
            OmegaConf.to_yaml(config),
            "\n",
            OmegaConf.to_yaml(OmegaConf.create({"hydra": shipped.hydra})),
        ]
    )
    path = folder / "best.yaml"
    replace(path, text.encode())
    print(f"\n{told}\nits config: {path}; to train it anew: {command}")
    return path
