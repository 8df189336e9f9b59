import subprocess

import torch

from transformer.training import environment as module
from transformer.training.environment import PACKAGES, differences, environment


def test_versions_commit_and_machine_are_told_as_text():
    facts = environment(torch.device("cpu"))
    assert {*PACKAGES, "python", "commit", "device", "cpu_capability", "threads"} == set(facts)
    assert all(isinstance(fact, str) for fact in facts.values())
    assert facts["torch"] == torch.__version__
    assert facts["threads"] == "1"
    assert facts["device"]


def test_without_git_or_package_it_says_so(monkeypatch):
    def no_git(*args, **kwargs):
        raise FileNotFoundError("git")

    monkeypatch.setattr(subprocess, "run", no_git)
    monkeypatch.setattr(module, "PACKAGES", ("no_such_package",))
    facts = environment(torch.device("cpu"))
    assert facts["commit"] == ""
    assert facts["no_such_package"] == "not installed as a package"


def test_differences():
    before, now = {"torch": "2.5", "threads": "2", "gone": "1"}, {"torch": "2.6", "threads": "2", "new": "1"}
    assert differences(before, before) == []
    assert differences(before, now) == [
        "torch was 2.5 and is now 2.6",
        "gone was 1 and is now unknown",
        "new was unknown and is now 1",
    ]
