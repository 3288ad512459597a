"""What several files of tests share."""

import pytest
import training_helpers


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """A corpus, a teacher, a student, and the student trained to its end without interruption."""
    return training_helpers.with_models(training_helpers.corpus(tmp_path_factory.mktemp("world")))


@pytest.fixture(scope="session")
def still(world, tmp_path_factory):
    """A student without dropout: its random numbers are drawn in each process."""
    folder = tmp_path_factory.mktemp("still")
    teacher = training_helpers.write_model(world.tokenizer, folder / "teacher", dropout=0)
    return training_helpers.write_student(teacher, folder / "it")
