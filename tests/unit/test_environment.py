"""The pinned environments hold the same packages."""

from pathlib import Path

import yaml

ENVIRONMENTS = Path(__file__).parents[2] / "envs"


def locked() -> list[str]:
    """The packages of the pip lock, without their hashes."""
    lines = (ENVIRONMENTS / "requirements.lock").read_text().splitlines()
    return [line.partition(" ")[0] for line in lines if line and line[0] not in "# "]


def test_the_lock_pins_every_package():
    assert all("==" in package for package in locked())
    assert "torch==2.13.0" in locked()


def test_every_package_but_torch_has_hashes():
    """One file of a package that is another than the one tested here is not installed."""
    text = (ENVIRONMENTS / "requirements.lock").read_text()
    entries = text.replace("\\\n", " ").splitlines()[1:]
    without = [entry for entry in entries if "--hash=sha256:" not in entry]
    assert [entry.partition("==")[0] for entry in without] == ["torch"]


def test_conda_installs_what_pip_does():
    written = yaml.safe_load((ENVIRONMENTS / "eliquare.yaml").read_text())
    assert written["dependencies"][-1] == {"pip": locked()}
