"""Whoever changes what an exact stage makes is told to raise its VERSION.

Each digest below is of a stage's output on a small demo world. If a test fails and the change is
meant: raise the stage's VERSION, and put the two numbers that the failure prints in here. Results
of users are made again only then.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from eliquare import stage

DIGESTS = {
    "demo.world": (1, "542e228d3191a6d65f483e27bbd3f9d5648e68e5966fbb6ca885cb6ec77e14b4"),
    "corpus.articles": (1, "8b8e4d6f2697302d7dc26835e900e3e126832fbc758917e899654ccf7d3d19a6"),
    "corpus.mixture": (1, "71c809b5e601a7d3a7fe00edebd2a0e6645d95d7e179cdce9cd9ecaca1db1617"),
    "models.tokenizer": (2, "7d65d86cb940581559b81e29d6625f0baa347c6318edcaaa62b58d835c60def8"),
    "corpus.sequences": (1, "d80afd190958123c7be0db538614b91cda18897f39cdab4be1c56517d79ec3fc"),
    "corpus.paired": (1, "d6131ea92ecdfc7196e99bee336450b81cb7c9424cdf3bc225951dbfd934546e"),
    "corpus.counts": (1, "a1b010b26f839e269f5e2c97ce95df61a5aa91745115041939e53138f8f6077d"),
    "vocabulary.select": (1, "9f993d7bd731109f1d0b406a80f43c67e277d440b0c3e171fd3974a622b8494a"),
}


def run(module: str, *options: str | Path) -> None:
    """Run a stage as a command."""
    command = [sys.executable, "-m", f"eliquare.{module}", *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def outputs(tmp_path_factory) -> dict[str, Path]:
    """What each exact stage makes of the world, by stage."""
    folder = tmp_path_factory.mktemp("versions")
    made = {name: folder / name for name in DIGESTS}
    run("demo.world", "--seed", 1, "--articles", 60, "--output", made["demo.world"])
    dump = next(made["demo.world"].glob("mirror/qaawiki/*/*.bz2"))
    run("corpus.articles", "--dump", dump, "--output", made["corpus.articles"])
    documents = made["corpus.articles"]
    both = ("--documents", documents, "--documents", documents)
    run("corpus.mixture", *both, "--output", made["corpus.mixture"])
    tokenizer = made["models.tokenizer"]
    size = ("--vocabulary-size", 600)
    run("models.tokenizer", "--documents", documents, *size, "--output", tokenizer)
    data = ("--documents", documents, "--tokenizer", tokenizer)
    run("corpus.sequences", *data, "--max-length", 32, "--output", made["corpus.sequences"])
    smaller = folder / "smaller"
    run("models.tokenizer", "--documents", documents, "--vocabulary-size", 400, "--output", smaller)
    data = (*data, "--teacher-tokenizer", smaller)
    run("corpus.paired", *data, "--max-length", 32, "--output", made["corpus.paired"])
    data = ("--sequences", made["corpus.sequences"], "--tokenizer", tokenizer)
    run("corpus.counts", *data, "--output", made["corpus.counts"])
    data = ("--model", tokenizer, "--counts", made["corpus.counts"])
    data = (*data, "--characters", documents / "characters.json")
    run("vocabulary.select", *data, "--top-k", 200, "--output", made["vocabulary.select"])
    return made


@pytest.mark.parametrize("name", DIGESTS)
def test_an_exact_stage_makes_what_its_version_made(name, outputs):
    version, digest = stage.version(f"eliquare.{name}"), stage.checksum(outputs[name])
    assert (version, digest) == DIGESTS[name], f'"{name}": ({version}, "{digest}"),'
