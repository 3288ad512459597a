"""The pinned environments hold the same packages."""

from pathlib import Path

import yaml

ENVIRONMENTS = Path(__file__).parents[2] / "envs"


def locked() -> list[str]:
    """The packages of the pip lock."""
    lines = (ENVIRONMENTS / "requirements.lock").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_the_lock_pins_every_package():
    assert all("==" in package for package in locked())
    assert "torch==2.13.0" in locked()


def test_conda_installs_what_pip_does():
    written = yaml.safe_load((ENVIRONMENTS / "eliquare.yaml").read_text())
    assert written["dependencies"][-1] == {"pip": locked()}
