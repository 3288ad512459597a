"""Several processes train one student: on one node by a recipe's `gpus`, on two nodes by hand."""

import json
import os
import re
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import STUDENT, ClusterProject

pytestmark = pytest.mark.timeout(2400)
# What config/README.md tells people to write for two nodes, here with one process on each. The
# nodes are all this machine, which does not know their names.
TWO_NODES = """#!/bin/bash
#SBATCH --partition=cpu --nodes=2 --ntasks-per-node=1 --cpus-per-task=1 --mem=4000 --time=10
srun torchrun --nnodes=2 --nproc-per-node=1 --rdzv-backend=c10d --rdzv-id=$SLURM_JOB_ID \\
    --rdzv-endpoint=localhost:{port} -m eliquare.distillation.training {options} --output {output}
"""


def fewer_steps(project: ClusterProject, **changes) -> None:
    """Cut the student's training, and change it."""
    path = project.folder / "config/test.yaml"
    config = yaml.safe_load(path.read_text())
    training = {"steps": 40, "batch_size": 2, "validations": 2, "threads": 4}
    config["students"]["pre"]["training"] = training | changes
    path.write_text(yaml.safe_dump(config))


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def processes(folder) -> int:
    return json.loads((folder / "provenance.json").read_text())["settings"]["processes"]


def test_four_gpus_are_four_processes_in_one_job(project):
    fewer_steps(project, gpus=4, threads=1)
    status, printed = project.finish(STUDENT)
    assert status == 0, printed
    ((tres, state),) = project.cluster.jobs(project.folder, "reqtres", "state")
    assert "gres/gpu=4" in tres
    assert "cpu=4" in tres
    assert "node=1" in tres
    assert state == "COMPLETED"
    assert processes(project.folder / STUDENT) == 4


def test_two_nodes(project, tmp_path):
    fewer_steps(project)
    printed = project.run(STUDENT, "-n", "-p", "--configfile", "config/test.yaml").stdout
    command = re.search(r"python -m eliquare.distillation.training (.*?) --threads", printed)[1]
    alone, together = tmp_path / "alone", tmp_path / "together"
    script = project.folder / "two_nodes.sh"
    script.write_text(TWO_NODES.format(options=command, output=together, port=free_port()))
    # As in a shell in which the project's environment is activated.
    environment = project.environment | {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), project.environment["PATH"]]),
        "PYTHONPATH": str(project.folder / "workflow"),
        "OMP_NUM_THREADS": "1",
    }
    submitted = ["sbatch", "--wait", "--output", str(tmp_path / "two_nodes.log"), str(script)]
    done = subprocess.run(
        submitted, cwd=project.folder, env=environment, capture_output=True, timeout=900
    )
    assert done.returncode == 0, (tmp_path / "two_nodes.log").read_text()
    nodes = [row for row in project.cluster.jobs(project.folder, "nnodes", "jobname")]
    assert nodes == [["2", "two_nodes.sh"]]
    one_node = (
        f"torchrun --standalone --nproc-per-node 2 -m eliquare.distillation.training {command}"
    )
    subprocess.run(
        [*shlex.split(one_node), "--output", str(alone)],
        cwd=project.folder,
        env=environment,
        check=True,
        capture_output=True,
        timeout=900,
    )
    assert processes(together) == processes(alone) == 2
    weights = [(folder / "model.safetensors").read_bytes() for folder in (alone, together)]
    assert weights[0] == weights[1]
