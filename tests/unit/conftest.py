"""What several rooms' tests share."""

import pytest

import trainings


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """Sequences and masks of generated text, a teacher and a student with dropout."""
    return trainings.make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="session")
def trained(world):
    """The student of this world, trained to its end without interruption."""
    return world.distill(world.folder / "trained")
