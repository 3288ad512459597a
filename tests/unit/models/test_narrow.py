"""Students that start narrower than their teacher: what stays, what is exact, what is refused."""

import pytest
import torch

from eliquare.config.model import StudentShape
from eliquare.io import InputError
from eliquare.models.loading import load_masked_lm
from eliquare.models.narrow import most_important, narrowed
from eliquare.models.student import new_student
from families import make_teacher

BATCHES = [
    {
        "input_ids": torch.arange(20 + start, 44 + start).reshape(2, 12),
        "attention_mask": torch.tensor([[1] * 12, [1] * 7 + [0] * 5]),
    }
    for start in range(0, 400, 24)
]
NAMES = {
    "bert": ("attention.output.dense", "output.dense", "attention.self.value"),
    "distilbert": ("attention.out_lin", "ffn.lin2", "attention.v_lin"),
    "xlmr": ("attention.output.dense", "output.dense", "attention.self.value"),
}


@pytest.fixture(scope="module", params=[*NAMES, "electra", "xlmr_xl"])
def teacher(request, tmp_path_factory):
    """A teacher of width 16 with two heads of 8 and 32 neurons."""
    return load_masked_lm(make_teacher(request.param, tmp_path_factory.mktemp("it") / "teacher"))


def made(teacher, **shape):
    given = StudentShape(**({"num_hidden_layers": 2, "initialization": "first"} | shape))
    return new_student(teacher, given, 1, lambda: BATCHES).eval()


def logits(model):
    with torch.inference_mode():
        return torch.cat([model(**batch).logits.flatten(0, 1) for batch in BATCHES])


def test_with_all_of_the_width_it_is_the_teacher(teacher):
    weights = narrowed(teacher, BATCHES, 16, 2, 32)
    own = teacher.state_dict()
    assert weights.keys() == own.keys()
    for name, tensor in own.items():
        torch.testing.assert_close(weights[name], tensor, msg=name)


def test_neurons_that_add_nothing_go_first(teacher):
    readers = [
        module
        for name, module in teacher.named_modules()
        if name.endswith(("output.dense", "lin2")) and module.weight.shape[1] == 32
    ]
    assert readers
    before = [module.weight.detach().clone() for module in readers]
    with torch.no_grad():
        for module in readers:
            module.weight[:, ::2] = 0
    student = made(teacher, intermediate_size=16)
    torch.testing.assert_close(logits(student), logits(teacher), rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        for module, weight in zip(readers, before, strict=True):
            module.weight.copy_(weight)


def test_a_head_that_adds_nothing_goes(teacher):
    readers = {
        name: module
        for name, module in teacher.named_modules()
        if name.endswith(("attention.output.dense", "attention.out_lin"))
    }
    before = {name: module.weight.detach().clone() for name, module in readers.items()}
    with torch.no_grad():
        for number, module in enumerate(readers.values()):
            module.weight[:, 8 * (number % 2) : 8 * (number % 2) + 8] *= 1e-3
    kept = most_important(teacher, BATCHES, 8, 1, 32)
    for number, (name, module) in enumerate(readers.items()):
        first = 8 * (1 - number % 2)
        assert kept[name].tolist() == [*range(first, first + 8)]
        with torch.no_grad():
            module.weight.copy_(before[name])


def test_half_the_width_runs_and_is_the_same_again(teacher):
    student = made(teacher, hidden_size=8, intermediate_size=16)
    assert student.config.num_attention_heads == 1
    assert logits(student).isfinite().all()
    again = made(teacher, hidden_size=8, intermediate_size=16).state_dict()
    for name, tensor in student.state_dict().items():
        assert torch.equal(tensor, again[name]), name


def test_states_of_few_dimensions_lose_nothing_in_the_embeddings(tmp_path):
    """All states lie in a plane of half the width: in its basis the embeddings are exact."""
    teacher = load_masked_lm(make_teacher("bert", tmp_path / "teacher"))
    embeddings = teacher.bert.embeddings
    with torch.no_grad():
        # Orthogonal to the mean, which normalization takes away.
        random = torch.randn(16, 8)
        plane = torch.linalg.qr(random - random.mean(0))[0]
        for part in ("word_embeddings", "position_embeddings", "token_type_embeddings"):
            module = getattr(embeddings, part)
            module.weight.copy_(module.weight @ plane @ plane.T)
        for name, parameter in teacher.bert.named_parameters():
            if "LayerNorm" in name:
                parameter.fill_(name.endswith("weight"))
            elif name.endswith(("output.dense.weight", "output.dense.bias")):
                parameter.zero_()
    student = made(teacher, hidden_size=8)
    wide = teacher.bert.embeddings.word_embeddings.weight
    narrow = student.bert.embeddings.word_embeddings.weight
    torch.testing.assert_close(wide @ wide.T, narrow @ narrow.T, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("family", "shape", "message"),
    [
        ("bert", {"hidden_size": 8, "num_attention_heads": 2}, "make a width of 16"),
        ("bert", {"hidden_size": 12}, "make a width of 8, and hidden_size is 12"),
        ("bert", {"hidden_size": 24}, "a student is no wider than its teacher"),
        ("bert", {"intermediate_size": 64}, "a student of another width starts blank"),
        ("modernbert", {"hidden_size": 8}, "ModernBertForMaskedLM cannot start narrower"),
        ("eurobert", {"hidden_size": 8}, "EuroBertForMaskedLM cannot start narrower"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path, family, shape, message):
    teacher = load_masked_lm(make_teacher(family, tmp_path / "teacher"))
    with pytest.raises(InputError, match=message):
        made(teacher, **shape)
