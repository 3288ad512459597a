"""Masks: proportional to the weights, never on special tokens, the same wherever drawn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

import worlds
from eliquare.corpus import masking, sequences
from eliquare.corpus.counts import read_counts
from eliquare.corpus.masking import IGNORE_INDEX, Masking, MaskOptions
from eliquare.io import InputError, checksum

SIZE = 50
SPECIAL = [0, 1, 2, 3, 4]
MASK = 4


def make(smoothing=0.7, **settings):
    occurrences = np.arange(SIZE)[::-1] ** 2
    return Masking(
        weights=masking.token_weights(occurrences, smoothing, SPECIAL).astype(float),
        mask_id=MASK,
        random_ids=np.arange(len(SPECIAL), SIZE),
        **settings,
    )


def draw(drawing, row, epoch, number):
    """The masked ids and the labels of one sequence by itself."""
    (masked,), (labels,) = drawing.draw_batch([row], epoch, [number])
    return masked, labels


rows = st.lists(
    st.lists(st.integers(0, SIZE - 1), min_size=1, max_size=60).map(np.array),
    min_size=1,
    max_size=8,
)


@given(rows, st.integers(0, 2**64 - 1), st.integers(0, 2**40), st.floats(0.01, 1))
def test_what_a_mask_never_does(batch, epoch, first, probability):
    drawing = make(mlm_probability=probability)
    masked, labels = drawing.draw_batch(batch, epoch, range(first, first + len(batch)))
    for row, new, label in zip(batch, masked, labels, strict=True):
        drawn = label != IGNORE_INDEX
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
        alone = draw(drawing, batch[number], epoch, number)
        assert np.array_equal(alone[0], masked[number])
        assert np.array_equal(alone[1], labels[number])


def test_seed_epoch_and_sequence_all_matter():
    row = np.arange(5, SIZE)
    keys = [(1, 0, 0), (2, 0, 0), (1, 1, 0), (1, 0, 1)]
    draws = {draw(make(seed=s), row, e, n)[1].tobytes() for s, e, n in keys}
    assert len(draws) == len(keys)


def test_no_weight_no_mask():
    masked, labels = draw(make(mlm_probability=1.0), np.array([2, 0, 3]), 0, 0)
    assert masked.tolist() == [2, 0, 3]
    assert (labels == IGNORE_INDEX).all()


@pytest.mark.parametrize("length", [1, 7, 128])
def test_the_masked_share_is_the_probability(length):
    draws = 20_000
    batch = [np.full(length, 9)] * draws
    _, labels = make().draw_batch(batch, 0, range(draws))
    share = np.mean([np.count_nonzero(label != IGNORE_INDEX) for label in labels]) / length
    # Rounded at random, the number drawn deviates by at most half a position.
    assert abs(share - 0.15) < 5 * 0.5 / np.sqrt(draws) / length


@pytest.mark.parametrize("smoothing", [0.0, 0.7, 1.0])
def test_positions_are_drawn_in_proportion_to_their_weights(smoothing):
    row = np.array([2, 5, 20, 35, 45, 49, 3])
    draws = 30_000
    # One of the five words a draw: then the shares are those of the weights exactly.
    drawing = make(smoothing, mlm_probability=1 / 5)
    _, labels = drawing.draw_batch([row] * draws, 0, range(draws))
    seen = np.count_nonzero(np.array(labels) != IGNORE_INDEX, axis=0)
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
    _, labels = make(mlm_probability=2 / 3).draw_batch([row] * draws, 0, range(draws))
    left_out = np.count_nonzero(np.array(labels) == IGNORE_INDEX, axis=0) / draws
    shares = weights / weights.sum()
    for last in range(3):
        first, second = (n for n in range(3) if n != last)
        expected = shares[first] * shares[second] / (1 - shares[first])
        expected += shares[second] * shares[first] / (1 - shares[second])
        assert left_out[last] == pytest.approx(expected, abs=0.015)


def test_mask_random_and_kept_have_their_shares():
    row = np.full(100, 9)
    masked, labels = make().draw_batch([row] * 2000, 0, range(2000))
    new = np.array(masked)[np.array(labels) != IGNORE_INDEX]
    assert np.mean(new == MASK) == pytest.approx(0.8, abs=0.015)
    # A random sub-word may be the old one: 1 of 45.
    assert np.mean(new == 9) == pytest.approx(0.1 + 0.1 / 45, abs=0.012)
    others = np.bincount(new, minlength=SIZE)[[n for n in range(5, SIZE) if n != 9]]
    expected = others.mean()
    assert ((others - expected) ** 2 / expected).sum() < 100  # 43 degrees of freedom


def test_weights_are_those_of_the_paper():
    counts = np.array([7, 0, 1, 100, 32])
    found = masking.token_weights(counts, 0.7, [0])
    assert found.dtype == np.float32
    assert found.tolist() == pytest.approx([0, 1, 1, 100**-0.7, 32**-0.7], rel=1e-6)
    assert masking.token_weights(counts, 0.0, [0]).tolist() == [0, 1, 1, 1, 1]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("masking")
    texts = worlds.texts("qab", 200)
    sequences.tokenize(
        sequences.TokenizeOptions(
            documents=worlds.write_documents(folder / "documents", texts),
            tokenizer=worlds.write_tokenizer("wordpiece", folder / "model", texts),
            max_length=128,
            output=folder / "sequences",
            counts=folder / "counts",
        )
    )
    return folder


def mask(folder, output, **options):
    names = {"sequences": "sequences", "counts": "counts", "tokenizer": "model"}
    inputs = {name: folder / place for name, place in names.items()}
    masking.mask(MaskOptions(**(inputs | {"output": output} | options)))
    return output


def test_the_validation_set_is_fixed_and_spread(folders, tmp_path):
    output = mask(folders, tmp_path / "all")
    data = sequences.open_sequences(output / "validation.arrow")
    source = sequences.open_sequences(folders / "sequences/validation.arrow")
    restored = sorted(
        [new if old == IGNORE_INDEX else old for new, old in zip(*pair, strict=True)]
        for pair in zip(data["input_ids"], data["labels"], strict=True)
    )
    assert restored == sorted(source["input_ids"])
    assert data["length"] == [len(row) for row in data["input_ids"]]
    assert checksum(mask(folders, tmp_path / "again")) == checksum(output)

    few = mask(folders, tmp_path / "few", max_validation_sequences=5)
    sample = sequences.open_sequences(few / "validation.arrow")
    assert sample.to_list() == data.to_list()[:5]
    assert [row["input_ids"] for row in sample] != source["input_ids"][:5]

    drawing = Masking.load(output, folders / "model")
    labels = np.concatenate(data["labels"])
    assert not np.isin(labels[labels != IGNORE_INDEX], np.flatnonzero(drawing.weights == 0)).any()
    assert np.mean(labels != IGNORE_INDEX) == pytest.approx(0.15 * 126 / 128, abs=0.004)


def test_rare_tokens_are_masked_more_often(folders, tmp_path):
    output = mask(folders, tmp_path / "masking")
    drawing = Masking.load(output, folders / "model")
    read = read_counts(folders / "counts")
    assert np.allclose(
        drawing.weights[drawing.random_ids],
        np.maximum(read.occurrences, 1)[drawing.random_ids] ** -0.7,
    )
    source = sequences.open_sequences(folders / "sequences/train.arrow")
    batch = [np.array(row) for row in source["input_ids"]]
    _, labels = drawing.draw_batch(batch, 0, range(len(batch)))
    seen, drawn = np.concatenate(batch), np.concatenate(labels) != IGNORE_INDEX
    rare = (read.occurrences[seen] < 3) & (drawing.weights[seen] > 0)
    common = read.occurrences[seen] > 300
    assert drawn[rare].mean() > 5 * drawn[common].mean()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("mlm_probability", 0),
        ("mlm_probability", 1.5),
        ("random_replace_prob", -0.1),
        ("smoothing", -1),
        ("max_validation_sequences", 0),
        ("masking_seed", -1),
    ],
)
def test_settings_out_of_range_are_refused(folders, tmp_path, option, value):
    with pytest.raises(ValidationError, match=option):
        mask(folders, tmp_path / "no", **{option: value})


def test_shares_above_1_together_are_refused(folders, tmp_path):
    with pytest.raises(ValidationError, match="mask_replace_prob and random_replace_prob together"):
        mask(folders, tmp_path / "no", mask_replace_prob=0.95)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("settings.json", b"{}", "mlm_probability: missing"),
        ("settings.json", b'{"mlm_probability": 5}', "mlm_probability: expected less than 1"),
        ("weights.npy", b"cut short", "not a file of masking weights"),
        ("weights.npy", np.array([1.0, np.nan]), "weights of 0 and more"),
        ("weights.npy", np.array(["a"]), "not a file of masking weights"),
    ],
)
def test_damaged_masking_is_refused(folders, tmp_path, name, content, said):
    made = mask(folders, tmp_path / "masking")
    if isinstance(content, bytes):
        (made / name).write_bytes(content)
    else:
        np.save(made / name, content)
    with pytest.raises(InputError, match=said):
        Masking.load(made, folders / "model")


def test_another_tokenizer_is_refused(folders, tmp_path):
    other = worlds.write_tokenizer("bytes", tmp_path / "other", ["one two"])
    with pytest.raises(InputError, match="same tokenizer"):
        mask(folders, tmp_path / "no", tokenizer=other)
    with pytest.raises(InputError, match="same tokenizer"):
        Masking.load(mask(folders, tmp_path / "masking"), other)
