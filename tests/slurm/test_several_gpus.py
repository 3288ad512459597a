"""Several processes train one student: on one node by a recipe's `gpus`, on two nodes by hand."""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from slurm_project import STUDENT, edit

pytestmark = pytest.mark.timeout(2400)
# What docs/cluster.md tells people to write for two nodes, here with one process on each. The
# nodes are all this machine, which does not know their names.
TWO_NODES = """#!/bin/bash
#SBATCH --partition=cpu --nodes=2 --ntasks-per-node=1 --cpus-per-task=1 --mem=4000 --time=10
srun torchrun --nnodes=2 --nproc-per-node=1 --rdzv-backend=c10d --rdzv-id=$SLURM_JOB_ID \\
    --rdzv-endpoint=localhost:{port} -m eliquare distillation distill {options} --output {output}
"""


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def processes(folder) -> int:
    return json.loads((folder / "provenance.json").read_text())["settings"]["gpus"]


def test_two_gpus_and_two_nodes(project, tmp_path):
    training = {"max_steps": 20, "num_evals": 2, "per_device_train_batch_size": 2, "threads": 1}
    edit(
        project.folder / "config/test.yaml",
        lambda config: config["students"]["pre"].update(training=training | {"gpus": 2}),
    )
    options = ("-n", "-p", "--configfile", "config/test.yaml", "--", STUDENT)
    printed = project.run(*options).stdout
    command = re.search(r"-m eliquare distillation distill (.*?) --output", printed)[1]
    status, printed = project.finish("--", STUDENT)
    assert status == 0, printed
    ((tres, state),) = project.cluster.jobs(project.folder, "reqtres", "state")
    assert "gres/gpu=2" in tres
    assert "cpu=2" in tres
    assert "node=1" in tres
    assert state == "COMPLETED"
    alone, together = project.folder / STUDENT, tmp_path / "together"
    script = project.folder / "two_nodes.sh"
    script.write_text(TWO_NODES.format(options=command, output=together, port=free_port()))
    # As in a shell in which the project's environment is activated.
    environment = project.environment | {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), project.environment["PATH"]]),
        "PYTHONPATH": str(project.folder / "workflow"),
        "OMP_NUM_THREADS": "1",
    }
    log = tmp_path / "two_nodes.log"
    submitted = ["sbatch", "--wait", "--output", str(log), str(script)]
    keywords = {"cwd": project.folder, "env": environment, "capture_output": True, "timeout": 900}
    done = subprocess.run(submitted, check=False, **keywords)
    assert done.returncode == 0, log.read_text()
    assert project.cluster.jobs(project.folder, "nnodes", "jobname")[1:] == [["2", "two_nodes.sh"]]
    assert processes(together) == processes(alone) == 2
    weights = [(folder / "model.safetensors").read_bytes() for folder in (alone, together)]
    assert weights[0] == weights[1]
