"""A cluster for each worker of pytest, and a project whose distillation can be submitted.

Without Slurm, or without root, which slurmd needs, these tests are skipped, and say so.
"""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from slurm_project import STUDENT, Cluster, ClusterProject, missing, one_language, weights
from tiny_project import Project


@pytest.fixture(scope="session")
def cluster(worker_id: str) -> Iterator[Cluster]:
    """A cluster for the tests of one worker."""
    with started(worker_id, accounting=True) as cluster:
        yield cluster


@pytest.fixture
def without_accounting(worker_id: str) -> Iterator[Cluster]:
    """A cluster that keeps no books: there is no sacct, and no account to give."""
    with started(worker_id, accounting=False) as cluster:
        yield cluster


@contextlib.contextmanager
def started(worker_id: str, accounting: bool) -> Iterator[Cluster]:
    """Start a cluster, and end it."""
    if reason := missing():
        pytest.skip(reason)
    number = int(worker_id.removeprefix("gw")) if worker_id.startswith("gw") else 0
    with tempfile.TemporaryDirectory(prefix="slurm-", ignore_cleanup_errors=True) as name:
        cluster = Cluster(Path(name) / "cluster", number, accounting)
        try:
            cluster("up")
            yield cluster
        finally:
            cluster("down")


@pytest.fixture(scope="session")
def shared(tmp_path_factory, worker_id: str) -> Path:
    """A folder that all workers of this run have in common."""
    base = tmp_path_factory.getbasetemp()
    return base if worker_id == "master" else base.parent


@pytest.fixture(scope="session")
def prepared(shared) -> Project:
    """A project in which everything but the distillation is made; never changed."""
    with FileLock(shared / "prepared.lock"):
        project = Project(shared / "prepared")
        path = project.configure(one_language("faults"))
        teacher, masking = (
            "results/teachers/teacher/model",
            "results/corpora/qaa/teacher/full/masking",
        )
        project.make(path, teacher, masking)
    return project


@pytest.fixture(scope="session")
def undisturbed(prepared, shared) -> bytes:
    """The weights of the student that nothing disturbs."""
    with FileLock(shared / "undisturbed.lock"):
        project = Project(shared / "undisturbed", like=prepared)
        project.make(project.folder / "config/test.yaml", target=STUDENT)
    return weights(project)


@pytest.fixture
def project(prepared, cluster, tmp_path) -> Iterator[ClusterProject]:
    """A project of the test's own, ready to distil on the cluster."""
    project = ClusterProject(tmp_path, cluster, like=prepared)
    yield project
    project.close()
