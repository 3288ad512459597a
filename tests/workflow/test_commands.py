"""Every command of the rules is one that its stage reads."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from eliquare import cli

ROOT = Path(__file__).parents[2]
COMMAND = re.compile(r"(?:python|torchrun [^|]*?) -m eliquare (\w+) (\w+) (.*?) > ")


@pytest.mark.parametrize("name", ["demo", "experiments/vocabularies-demo"])
def test_stages_read_the_commands_of_the_rules(name, tmp_path):
    command = [str(Path(sys.executable).parent / "snakemake"), "-n", "-p", "--cores", "1"]
    command += ["--snakefile", str(ROOT / "Snakefile"), "--directory", str(tmp_path)]
    command += ["--configfile", str(ROOT / "config" / f"{name}.yaml")]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    commands = COMMAND.findall(printed)
    stages = {(room, stage) for room, stage, _ in commands}
    assert len(stages) > 15
    assert (name == "demo") == (("export", "student") in stages)
    for room, stage, words in commands:
        function = cli.load(cli.STAGES[room][stage])
        cli.parse(function, f"eliquare {room} {stage}", shlex.split(words))
