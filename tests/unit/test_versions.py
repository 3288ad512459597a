"""Whoever changes what an exact stage makes is told to raise its version.

Each digest below is of a stage's output on a small demo world. If a test fails and the change is
meant: raise the stage's version in ``cli.STAGES``, and put the line that the failure prints in
here. Results of users are made again only then.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from demo_languages import world
from eliquare import cli
from eliquare.io import checksum

DIGESTS = {
    "demo languages": (2, "e843e2ab0e7eacb8d6b297b60eb905f18fa552a8055a1d31d61e1c4f481b40ae"),
    "corpus documents": (1, "8b8e4d6f2697302d7dc26835e900e3e126832fbc758917e899654ccf7d3d19a6"),
    "corpus mixture": (1, "71c809b5e601a7d3a7fe00edebd2a0e6645d95d7e179cdce9cd9ecaca1db1617"),
    "corpus sample": (1, "c13a93f6d6b225ddcfde571fc0d3fe293cdb86988a2dcc776dc29b5919bb6840"),
    "models tokenizer": (2, "7d65d86cb940581559b81e29d6625f0baa347c6318edcaaa62b58d835c60def8"),
    "corpus tokenize": (3, "1be40dcd4de29802849eb29f09b512c86ece365a704285f2f6c9c2999c792c9e"),
    "corpus mask": (2, "d82cefbd59582a74d2033a7077d65331e000c1068bea0918f1809e6e7e3a4f48"),
    "extension tokenize": (1, "ab94809a7ba1299ec3600ff575d7918f7950aaccf9d5d51e3369577479080ceb"),
    "extension mask": (1, "d5d22f5f9ed52692d248516c788b672afa5e96435d945551fc5a8d5ae8ed821d"),
    "vocabulary select": (2, "a51c513bba0aecdb9f6fc28483ffcdd59eb749d090ee06b37d8b9914368a75f4"),
}


def run(*command: str | Path | int) -> None:
    """Run a module as a command."""
    words = [sys.executable, "-m", *map(str, command)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def outputs(tmp_path_factory) -> dict[str, Path]:
    """What each exact stage makes of the world, by stage."""
    folder = tmp_path_factory.mktemp("versions")
    made = {name: folder / name.replace(" ", "-") for name in DIGESTS}

    def stage(name: str, *options: str | Path | int, output: Path | None = None) -> None:
        run("eliquare", *name.split(), *options, "--output", output or made[name])

    def tokenize_and_mask(room: str, *options: str | Path | int) -> None:
        parts = {name: made[f"{room} tokenize"] / name for name in ("sequences", "counts")}
        stage(
            f"{room} tokenize",
            *("--documents", documents, "--tokenizer", tokenizer, *options, "--max-length", 32),
            *("--counts", parts["counts"]),
            output=parts["sequences"],
        )
        inputs = ("--sequences", parts["sequences"], "--counts", parts["counts"])
        stage(f"{room} mask", *inputs, "--tokenizer", tokenizer)

    made_world = made["demo languages"]
    run("demo_languages", "--seed", 1, "--articles", 60, "--output", made_world)
    stage("corpus documents", "--dump", next(made_world.glob("mirror/qaawiki/*/*.bz2")))
    documents = made["corpus documents"]
    stage("corpus mixture", "--documents", documents, documents)
    stage("corpus sample", "--documents", documents, "--sentences", 20)
    tokenizer, smaller = made["models tokenizer"], folder / "smaller"
    stage("models tokenizer", "--documents", documents, "--vocab-size", 600)
    stage("models tokenizer", "--documents", documents, "--vocab-size", 400, output=smaller)
    tokenize_and_mask("corpus")
    tokenize_and_mask("extension", "--teacher-tokenizer", smaller)
    stage(
        "vocabulary select",
        *("--model", tokenizer, "--counts", made["corpus tokenize"] / "counts"),
        *("--characters", documents / "characters.json", "--top-k", 200),
    )
    return made


@pytest.mark.parametrize("name", DIGESTS)
def test_an_exact_stage_makes_what_its_version_made(name, outputs):
    version = world.VERSION if name == "demo languages" else cli.version(*name.split())
    digest = checksum(outputs[name])
    assert (version, digest) == DIGESTS[name], f'"{name}": ({version}, "{digest}"),'
