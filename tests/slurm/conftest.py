"""A cluster for each worker of pytest, and a project whose distillation can be submitted.

Without Slurm, or without root, which slurmd needs, these tests are skipped, and say so.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from slurm_project import STUDENT, Cluster, ClusterProject, missing, one_language, weights
from tiny_project import Project


@pytest.fixture(scope="session")
def cluster(worker_id: str) -> Iterator[Cluster]:
    """A cluster for the tests of one worker."""
    if reason := missing():
        pytest.skip(reason)
    number = int(worker_id.removeprefix("gw")) if worker_id.startswith("gw") else 0
    with tempfile.TemporaryDirectory(prefix="slurm-", ignore_cleanup_errors=True) as name:
        folder = Path(name) / "cluster"
        cluster = Cluster(folder, number)
        try:
            cluster("up")
            yield cluster
        finally:
            cluster("down")


@pytest.fixture(scope="session")
def prepared(tmp_path_factory) -> Project:
    """A project in which everything but the distillation is made."""
    project = Project(tmp_path_factory.mktemp("prepared"))
    path = project.configure(one_language("faults"))
    project.make(path, "results/teachers/teacher/model", "results/corpora/qaa/teacher/full/masking")
    return project


@pytest.fixture(scope="session")
def undisturbed(prepared, tmp_path_factory) -> bytes:
    """The weights of the student that nothing disturbs."""
    project = Project(tmp_path_factory.mktemp("undisturbed"), like=prepared)
    project.make(project.folder / "config/test.yaml", target=STUDENT)
    return weights(project)


@pytest.fixture
def project(prepared, cluster, tmp_path) -> Iterator[ClusterProject]:
    """A project of the test's own, ready to distil on the cluster."""
    project = ClusterProject(tmp_path, cluster, like=prepared)
    yield project
    project.close()
