"""Students: which teacher layers they start as, what is refused, in every family."""

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForMaskedLM

from eliquare.config.model import StudentShape
from eliquare.io import InputError, read_json, write_json
from eliquare.models.loading import load_masked_lm, max_sequence_length
from eliquare.models.student import LAYER, layer_map, new_student, student_config
from families import make_teacher


@pytest.fixture(scope="module", params=["bert", "distilbert", "xlmr"])
def teacher(request, tmp_path_factory):
    """Return a teacher of twelve layers."""
    return make_teacher(request.param, tmp_path_factory.mktemp("teachers") / "it", layers=12)


def make(teacher, output, layers, seed=1, **shape):
    """Write a student of a teacher."""
    given = StudentShape(num_hidden_layers=layers, **shape)
    new_student(load_masked_lm(teacher), given, seed).save_pretrained(output)
    return output


def weights(folder):
    return load_file(folder / "model.safetensors")


def test_layer_maps():
    assert layer_map("2n-1", 6, 12) == [0, 2, 4, 6, 8, 10]
    assert layer_map("even", 6, 24) == [1, 5, 9, 13, 17, 21]
    assert layer_map("even", 6, 22) == [1, 5, 9, 12, 16, 20]
    assert layer_map("even", 4, 12) == [1, 4, 7, 10]
    assert layer_map("even", 3, 12) == [1, 5, 9]
    assert layer_map("distilbert", 6, 12) == [0, 2, 4, 7, 9, 11]
    assert layer_map("last", 4, 12) == [8, 9, 10, 11]
    assert layer_map("first", 4, 12) == [0, 1, 2, 3]
    for teacher_layers in range(1, 25):
        for layers in range(1, teacher_layers + 1):
            spread = layer_map("distilbert", layers, teacher_layers)
            assert len(set(spread)) == layers
            assert spread == sorted(spread)
            assert spread[0] == 0
            assert layers == 1 or spread[-1] == teacher_layers - 1
            even = layer_map("even", layers, teacher_layers)
            assert len(even) == len({*even}) == layers
            # As many of the teacher's layers below the first as above the last, or one fewer.
            assert even == sorted(even)
            assert teacher_layers - 1 - even[-1] - even[0] in (0, 1)
            if layers == teacher_layers:
                assert even == list(range(layers))
            if 2 * layers == teacher_layers:
                assert even == layer_map("2n-1", layers, teacher_layers)
    with pytest.raises(InputError, match="takes layer 9 of the teacher"):
        layer_map("2n-1", 5, 8)


@pytest.mark.parametrize(
    ("initialization", "layers", "mapped"),
    [
        ("even", 6, [0, 2, 4, 6, 8, 10]),
        ("even", 4, [1, 4, 7, 10]),
        ("2n-1", 4, [0, 2, 4, 6]),
        ("distilbert", 6, [0, 2, 4, 7, 9, 11]),
        ("last", 3, [9, 10, 11]),
        ("first", 3, [0, 1, 2]),
        ("blank", 2, None),
        ("embeddings", 2, None),
    ],
)
def test_a_student_starts_as_the_right_layers(teacher, tmp_path, initialization, layers, mapped):
    folder = make(teacher, tmp_path / "s", layers, initialization=initialization)
    student, source = weights(folder), weights(teacher)
    for name, tensor in student.items():
        layer = LAYER.match(name)
        original = name
        if layer and mapped:
            original = f"{layer['before']}{mapped[int(layer['index'])]}{layer['after']}"
        copied = mapped is not None or (initialization == "embeddings" and "embeddings." in name)
        assert torch.equal(tensor, source[original]) == copied, name
    indices = {int(layer["index"]) for layer in map(LAYER.match, student) if layer}
    assert indices == set(range(layers))
    model, loading = AutoModelForMaskedLM.from_pretrained(folder, output_loading_info=True)
    assert not any(loading.values())
    assert model.config.num_hidden_layers == layers
    tied = model.get_output_embeddings().weight
    assert tied.data_ptr() == model.get_input_embeddings().weight.data_ptr()


@pytest.mark.parametrize(
    ("layers", "shape", "message"),
    [
        (13, {"initialization": "first"}, "no more than its teacher"),
        (7, {"initialization": "2n-1"}, "2n-1 takes layer 13"),
        (2, {"hidden_size": 24}, "a student is no wider than its teacher"),
        (2, {"hidden_size": 8, "initialization": "embeddings"}, "cannot start narrower"),
        (2, {"intermediate_size": 64}, "starts blank"),
        (2, {"num_attention_heads": 4}, "heads"),
        (2, {"hidden_size": 15, "initialization": "blank"}, "no multiple of 2 heads"),
    ],
)
def test_a_student_that_cannot_be_is_refused(teacher, tmp_path, layers, shape, message):
    with pytest.raises(InputError, match=message):
        make(teacher, tmp_path / "s", layers, **shape)
    assert not list(tmp_path.iterdir())


def test_another_shape_starts_blank(teacher, tmp_path):
    shape = {"hidden_size": 12, "intermediate_size": 40, "num_attention_heads": 3}
    shape["initialization"] = "blank"
    folder = make(teacher, tmp_path / "s", 4, **shape)
    model = load_masked_lm(folder)
    assert model.config.hidden_size == 12
    assert model.config.num_attention_heads == 3
    assert max_sequence_length(model) == max_sequence_length(load_masked_lm(teacher))
    again = make(teacher, tmp_path / "again", 4, **shape)
    other = make(teacher, tmp_path / "other", 4, **shape, seed=2)
    first, same, another = (
        (each / "model.safetensors").read_bytes() for each in (folder, again, other)
    )
    assert first == same != another


FAMILIES = ["electra", "roberta", "modernbert", "modernbert-untied", "mmbert"]
FAMILIES += ["deberta", "deberta-v3", "albert", "rembert", "eurobert", "xlmr_xl"]


@pytest.mark.parametrize("family", ["bert", *FAMILIES])
def test_a_student_with_all_layers_is_its_teacher(family, tmp_path):
    teacher = make_teacher(family, tmp_path / "teacher")
    copy = make(teacher, tmp_path / "copy", 2, initialization="first")
    first, second = (load_masked_lm(each) for each in (teacher, copy))
    ids = torch.arange(20, 44).reshape(2, 12)
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    with torch.no_grad():
        assert torch.equal(first(**batch).logits, second(**batch).logits)
        matrix = first.get_input_embeddings().weight
        for initialization in ("even", "2n-1", "last", "blank", "embeddings"):
            folder = make(teacher, tmp_path / "one", 1, initialization=initialization)
            student = load_masked_lm(folder)
            copied = torch.equal(student.get_input_embeddings().weight, matrix)
            assert copied == (initialization != "blank")
            logits = student(**batch).logits
            assert logits.shape == (2, 12, first.config.vocab_size)
            assert logits.isfinite().all()


def test_copied_layers_keep_their_kind_of_attention(tmp_path):
    """ModernBERT attends to the full text in every third layer, from the first on."""
    config = load_masked_lm(make_teacher("modernbert", tmp_path / "teacher")).config
    config.num_hidden_layers = 6
    config.layer_types = ["full_attention", "sliding_attention", "sliding_attention"] * 2
    for initialization, kinds in (
        ("even", [0, 2, 4]),
        ("last", [3, 4, 5]),
        ("blank", [0, 1, 2]),
    ):
        shape = StudentShape(num_hidden_layers=3, initialization=initialization)
        made = student_config(config, shape)
        assert made.layer_types == [config.layer_types[kind] for kind in kinds]


def test_published_deberta_v3_weights_teach(tmp_path):
    """Their configuration does not say ``legacy: false``, without which the head is not read."""
    folder = make_teacher("deberta-v3", tmp_path / "teacher")
    config = read_json(folder / "config.json")
    config.pop("legacy")
    write_json(folder / "config.json", config)
    assert load_masked_lm(folder).config.legacy is False
