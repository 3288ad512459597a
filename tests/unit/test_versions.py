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
    "corpus documents": (4, "5da5378bdb7648d6ff9a73822d191374dc60147350e5b39f67b0d006c9e94aad"),
    "corpus mixture": (1, "1298930fe456c52d5d751415a5c7b8ad273b64a14c8b84196d3043562f573a85"),
    "corpus sample": (4, "473b75b93509a2ca9ece0d0530ef56c92a857cb807c84df77c840e30eeecec73"),
    "models tokenizer": (2, "77f0c57e0807d954fe50885a3da8668795aeb6fb9d6dffdb8998b2afe9a42c2d"),
    "corpus tokenize": (4, "7c5f2b1b527af14ae2a6dc0461e8df34e9fdb00a56d6c29f0a4616f375ff4269"),
    "corpus mask": (2, "3444983138e9257804ceb50e30bc2824b3cf9c74df7724cc2eec3ba9b4e9348f"),
    "extension tokenize": (2, "c516b5900dfe41e9530a20424d7407660e1a8671890c3c141a882dcf351787ba"),
    "extension mask": (1, "d68b1f285148ce4c709a27f8f847f631db5266346c614aa34cb0c3718fda8ee6"),
    "vocabulary select": (3, "341b0d709984a8201a43738c5245344f27ecaa8db75ea8f6ff2c01ad7493b1f7"),
}


def run(*command: str | Path | int) -> None:
    """Run a stage in this process."""
    with pytest.raises(SystemExit) as end:
        cli.main([*map(str, command)])
    assert end.value.code == 0


@pytest.fixture(scope="module")
def outputs(tmp_path_factory) -> dict[str, Path]:
    """What each exact stage makes of the world, by stage."""
    folder = tmp_path_factory.mktemp("versions")
    made = {name: folder / name.replace(" ", "-") for name in DIGESTS}

    def stage(name: str, *options: str | Path | int, output: Path | None = None) -> None:
        run(*name.split(), *options, "--output", output or made[name])

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
    words = ["--seed", "1", "--articles", "60", "--output", str(made_world)]
    subprocess.run([sys.executable, "-m", "demo_languages", *words], check=True)
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
