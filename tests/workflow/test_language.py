"""A language code alone: from hosts that are stood in for to a report, nothing else written."""

import os

import pytest

from demo_languages import world
from families import make_teacher
from hosts import Hosts
from tiny_project import Project

pytestmark = pytest.mark.timeout(3000)


@pytest.fixture(scope="module")
def hosts(tmp_path_factory):
    """The dumps of invented languages, at an address."""
    folder = tmp_path_factory.mktemp("hosts")
    world.run(world.parser().parse_args(["--articles", "50", "--output", str(folder / "world")]))
    with Hosts(folder / "world/mirror") as server:
        yield server


def test_a_code_is_enough(hosts, tmp_path):
    project = Project(tmp_path / "clone")
    teacher = make_teacher("bert", tmp_path / "teacher")
    environment = os.environ | {"ELIQUARE_DUMPS": hosts.root, "HF_ENDPOINT": hosts.root}
    words = ["--cores", "2", "--config", "language=qaa", f"teacher={teacher}", "smoke=true"]
    done = project.run(*words, environment=environment)
    assert done.returncode == 0, done.stdout[-6000:]
    results = project.folder / "results/smoke/qaa-teacher"
    assert (results / "models/small-teacher-qaa/model.safetensors").exists()
    report = (results / "report.html").read_text(encoding="utf-8")
    # Without a task, held-out text says how good the student is.
    assert "bits per character" in report
    again = project.run(*words, environment=environment)
    assert "Nothing to be done" in again.stdout
