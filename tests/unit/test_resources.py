"""Memory and time of jobs, in numbers that can be checked by hand."""

import pytest

from eliquare import resources
from eliquare.config.model import Shape, Training


@pytest.fixture
def folder(tmp_path):
    """A folder of three megabytes, one of them further down."""
    (tmp_path / "model" / "below").mkdir(parents=True)
    (tmp_path / "model" / "weights").write_bytes(bytes(2_000_000))
    (tmp_path / "model" / "below" / "more").write_bytes(bytes(1_000_000))
    return tmp_path / "model"


def test_megabytes_are_those_of_files_and_folders(folder):
    assert resources.megabytes(folder, folder / "weights") == 5
    with pytest.raises(FileNotFoundError):
        resources.megabytes(folder / "missing")


def test_each_attempt_asks_for_as_much_again(folder):
    assert resources.memory(1, 1000, 10, folder) == 1030
    assert resources.memory(3, 1000, 10, folder) == 3090
    assert resources.minutes(1, 30, 2, folder) == 36
    assert resources.minutes(2, 30, 2, folder) == 72


def test_no_job_asks_for_more_than_the_cluster_gives(folder):
    assert resources.minutes(3, 30, longest=60) == 60
    assert resources.minutes(1, 30, longest=60) == 30


def test_minutes_of_a_training(folder):
    # 10 steps of 8 x 2 sequences of 100 tokens, on each of 2 GPUs.
    steps = Training(max_steps=10, gradient_accumulation_steps=2, gpus=2)
    operations = 10 * 8 * 2 * 2 * 100 * (2 * (3e12 + 1e12) + 4 * 1e12)
    expected = 60 + 2 * operations / 80e12 / 2 / 60
    assert resources.training_minutes(1, steps, folder, [3e12, 1e12], max_length=100) == round(
        expected
    )
    # Three megabytes of sequences are 1.5 million tokens; 4 epochs.
    epochs = Training(num_train_epochs=4)
    expected = 60 + 2 * 4 * 1.5e6 * 6 * 1e12 / 80e12 / 60
    assert resources.training_minutes(1, epochs, folder, [1e12], max_length=100) == round(expected)
    assert resources.training_minutes(1, epochs, folder, [1e12], max_length=100, longest=99) == 99
    # With bounds, those of the steps of 8 sequences.
    for bound, steps in (({"min_steps": 10_000}, 10_000), ({"max_steps": 10}, 10)):
        training = Training(num_train_epochs=4, **bound)
        expected = 60 + 2 * steps * 800 * 6 * 1e12 / 80e12 / 60
        found = resources.training_minutes(1, training, folder, [1e12], max_length=100)
        assert found == round(expected)


def test_memory_of_a_training_is_that_of_all_its_processes(folder):
    assert resources.training_memory(1, Training(gpus=4), folder) == 4 * (4000 + 15)


def test_parameters_of_models(folder):
    assert resources.stored_parameters(folder) == 750_000
    shape = Shape(num_hidden_layers=2, hidden_size=10, intermediate_size=40)
    assert resources.new_parameters(shape, vocab_size=100) == 1000 + 2 * (400 + 800)


def test_minutes_of_finetuning(folder):
    expected = 30 + 5 * 2 * 3 / 700 * 10 * 6
    files = [folder, folder]
    assert resources.finetuning_minutes(1, folder, files, 10, seeds=5) == round(expected)


def test_small_inputs_wait_for_no_second_core(folder):
    assert resources.cores(8, folder) == 1
    (folder / "more").write_bytes(bytes(37_000_000))
    assert resources.cores(8, folder) == 3
    assert resources.cores(2, folder) == 2
    assert resources.cores(8, folder / "missing") == 1
