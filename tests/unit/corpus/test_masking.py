"""Masks: proportional to the weights, never on special tokens, the same wherever drawn."""

import datasets
import numpy as np
import pytest
from corpus_helpers import articles, needs_data, write_documents, write_tokenizer
from hypothesis import given
from hypothesis import strategies as st

from eliquare import masking, stage
from eliquare.corpus import counts, sequences
from eliquare.masking import IGNORED, Masking
from eliquare.stage import InputError

SIZE = 50
SPECIAL = [0, 1, 2, 3, 4]
MASK = 4


def make(smoothing=0.7, **settings):
    occurrences = np.arange(SIZE)[::-1] ** 2
    return Masking(
        weights=masking.weights(occurrences, smoothing, SPECIAL).astype(float),
        mask_id=MASK,
        random_ids=np.arange(len(SPECIAL), SIZE),
        **settings,
    )


rows = st.lists(
    st.lists(st.integers(0, SIZE - 1), min_size=1, max_size=60).map(np.array),
    min_size=1,
    max_size=8,
)


@given(rows, st.integers(0, 2**64 - 1), st.integers(0, 2**40), st.floats(0.01, 1))
def test_what_a_mask_never_does(batch, epoch, first, probability):
    drawing = make(probability=probability)
    masked, labels = drawing.draw_batch(batch, epoch, range(first, first + len(batch)))
    for row, new, label in zip(batch, masked, labels, strict=True):
        drawn = label != IGNORED
        assert not np.isin(row[drawn], SPECIAL).any()
        assert np.array_equal(np.where(drawn, label, new), row)
        assert np.isin(new[drawn], np.append(drawing.random_ids, MASK)).all()
        maskable = np.count_nonzero(~np.isin(row, SPECIAL))
        assert abs(drawn.sum() - probability * maskable) < 1


@given(rows, st.integers(0, 2**64 - 1), st.randoms(use_true_random=False))
def test_a_mask_depends_on_its_key_alone(batch, epoch, random):
    drawing = make()
    masked, labels = drawing.draw_batch(batch, epoch, range(len(batch)))
    order = list(range(len(batch)))
    random.shuffle(order)
    shuffled = drawing.draw_batch([batch[n] for n in order], epoch, order)
    for place, number in enumerate(order):
        assert np.array_equal(shuffled[0][place], masked[number])
        assert np.array_equal(shuffled[1][place], labels[number])
        alone = drawing.draw(batch[number], epoch, number)
        assert np.array_equal(alone[0], masked[number])
        assert np.array_equal(alone[1], labels[number])


def test_seed_epoch_and_sequence_all_matter():
    row = np.arange(5, SIZE)
    keys = [(1, 0, 0), (2, 0, 0), (1, 1, 0), (1, 0, 1)]
    draws = {make(seed=s).draw(row, e, n)[1].tobytes() for s, e, n in keys}
    assert len(draws) == len(keys)


def test_no_weight_no_mask():
    masked, labels = make(probability=1.0).draw(np.array([2, 0, 3]), 0, 0)
    assert masked.tolist() == [2, 0, 3]
    assert (labels == IGNORED).all()


@pytest.mark.parametrize("length", [1, 7, 128])
def test_the_masked_share_is_the_probability(length):
    draws = 20_000
    batch = [np.full(length, 9)] * draws
    _, labels = make().draw_batch(batch, 0, range(draws))
    share = np.mean([np.count_nonzero(label != IGNORED) for label in labels]) / length
    # Rounded at random, the number drawn deviates by at most half a position.
    assert abs(share - 0.15) < 5 * 0.5 / np.sqrt(draws) / length


@pytest.mark.parametrize("smoothing", [0.0, 0.7, 1.0])
def test_positions_are_drawn_in_proportion_to_their_weights(smoothing):
    row = np.array([2, 5, 20, 35, 45, 49, 3])
    draws = 30_000
    # One of the five words a draw: then the shares are those of the weights exactly.
    drawing = make(smoothing, probability=1 / 5)
    _, labels = drawing.draw_batch([row] * draws, 0, range(draws))
    seen = np.count_nonzero(np.array(labels) != IGNORED, axis=0)
    weights = drawing.weights[row]
    expected = draws * weights / weights.sum()
    assert seen.sum() == draws
    words = expected > 0
    assert not seen[~words].any()
    chi_square = ((seen - expected)[words] ** 2 / expected[words]).sum()
    assert chi_square < 25  # four degrees of freedom: exceeded once in 20,000 seeds


def test_several_positions_follow_draws_without_replacement():
    row = np.array([5, 40, 49])
    weights = make().weights[row]
    draws = 30_000
    _, labels = make(probability=2 / 3).draw_batch([row] * draws, 0, range(draws))
    left_out = np.count_nonzero(np.array(labels) == IGNORED, axis=0) / draws
    shares = weights / weights.sum()
    for last in range(3):
        first, second = (n for n in range(3) if n != last)
        expected = shares[first] * shares[second] / (1 - shares[first])
        expected += shares[second] * shares[first] / (1 - shares[second])
        assert left_out[last] == pytest.approx(expected, abs=0.015)


def test_mask_random_and_kept_have_their_shares():
    row = np.full(100, 9)
    masked, labels = make().draw_batch([row] * 2000, 0, range(2000))
    new = np.array(masked)[np.array(labels) != IGNORED]
    assert np.mean(new == MASK) == pytest.approx(0.8, abs=0.015)
    # A random sub-word may be the old one: 1 of 45.
    assert np.mean(new == 9) == pytest.approx(0.1 + 0.1 / 45, abs=0.012)
    others = np.bincount(new, minlength=SIZE)[[n for n in range(5, SIZE) if n != 9]]
    expected = others.mean()
    assert ((others - expected) ** 2 / expected).sum() < 100  # 43 degrees of freedom


def test_weights_are_those_of_the_paper():
    counts = np.array([7, 0, 1, 100, 32])
    found = masking.weights(counts, 0.7, [0])
    assert found.dtype == np.float32
    assert found.tolist() == pytest.approx([0, 1, 1, 100**-0.7, 32**-0.7], rel=1e-6)
    assert masking.weights(counts, 0.0, [0]).tolist() == [0, 1, 1, 1, 1]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("masking")
    model = write_tokenizer("wordpiece", folder / "model", [])
    documents = write_documents(folder / "documents", articles("uk", 100_000))
    run(sequences, documents=documents, tokenizer=model, output=folder / "sequences")
    run(counts, sequences=folder / "sequences", tokenizer=model, output=folder / "counts")
    return folder


def run(module, **options):
    arguments = []
    for name, value in options.items():
        arguments += [f"--{name.replace('_', '-')}", str(value)]
    module.run(module.parser().parse_args(arguments))


def mask(folder, output, **options):
    names = {"sequences": "sequences", "counts": "counts", "tokenizer": "model"}
    inputs = {name: folder / place for name, place in names.items()}
    run(masking, **(inputs | {"output": output} | options))
    return output


@needs_data
def test_the_validation_set_is_fixed_and_spread(folders, tmp_path):
    output = mask(folders, tmp_path / "all")
    data = datasets.Dataset.from_file(str(output / "validation.arrow"))
    source = datasets.Dataset.from_file(str(folders / "sequences/validation.arrow"))
    restored = sorted(
        [new if old == IGNORED else old for new, old in zip(*pair, strict=True)]
        for pair in zip(data["input_ids"], data["labels"], strict=True)
    )
    assert restored == sorted(source["input_ids"])
    assert data["length"] == [len(row) for row in data["input_ids"]]
    assert stage.checksum(mask(folders, tmp_path / "again")) == stage.checksum(output)

    few = mask(folders, tmp_path / "few", max_validation=5)
    sample = datasets.Dataset.from_file(str(few / "validation.arrow"))
    assert sample.to_list() == data.to_list()[:5]
    assert [row["input_ids"] for row in sample] != source["input_ids"][:5]

    drawing = Masking.load(output, folders / "model")
    labels = np.concatenate(data["labels"])
    assert not np.isin(labels[labels != IGNORED], np.flatnonzero(drawing.weights == 0)).any()
    assert np.mean(labels != IGNORED) == pytest.approx(0.15 * 126 / 128, abs=0.004)


@needs_data
def test_rare_subwords_are_masked_more_often(folders, tmp_path):
    output = mask(folders, tmp_path / "masking")
    drawing = Masking.load(output, folders / "model")
    read = counts.read(folders / "counts")
    assert np.allclose(
        drawing.weights[drawing.random_ids],
        np.maximum(read.occurrences, 1)[drawing.random_ids] ** -0.7,
    )
    source = datasets.Dataset.from_file(str(folders / "sequences/train.arrow"))
    batch = [np.array(row) for row in source["input_ids"]]
    _, labels = drawing.draw_batch(batch, 0, range(len(batch)))
    seen, drawn = np.concatenate(batch), np.concatenate(labels) != IGNORED
    rare = (read.occurrences[seen] < 3) & (drawing.weights[seen] > 0)
    common = read.occurrences[seen] > 300
    assert drawn[rare].mean() > 5 * drawn[common].mean()


@needs_data
@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("probability", 0),
        ("probability", 1.5),
        ("mask_share", 0.95),
        ("random_share", -0.1),
        ("smoothing", -1),
        ("max_validation", 0),
        ("seed", -1),
    ],
)
def test_settings_out_of_range_are_refused(folders, tmp_path, option, value):
    with pytest.raises(InputError, match=f"--{option.replace('_', '-')}"):
        mask(folders, tmp_path / "no", **{option: value})
    assert not list(tmp_path.iterdir())
