"""A recipe gives the same reduced model again, and of nothing else."""

import json

import pytest
from transformers import AutoTokenizer

import families
from eliquare.export import recipe
from eliquare.export.recipe import RebuildOptions, RecipeOptions
from eliquare.io import Failure, InputError, read_json, write_json
from eliquare.models import hub
from eliquare.models.hub import FetchOptions, fetch
from eliquare.models.sentence import read_sentence

COMMIT = "a" * 40


@pytest.fixture(params=["xlmr", "sentence encoder"], scope="module")
def made(request, tmp_path_factory):
    """A model as on a hub, the same as fetched, reduced, and the recipe."""
    folder = tmp_path_factory.mktemp("recipe")
    encodes = request.param == "sentence encoder"
    families.make_teacher("bert" if encodes else "xlmr", folder / "hub")
    options = {"pooling": "mean", "prompts": {"query": "ein "}} if encodes else {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hub, "local_folder", lambda model, revision=None: folder / "hub")
        fetch(FetchOptions(model=str(folder / "hub"), output=folder / "base", **options))
    # As if it came from a hub.
    said = read_json(folder / "base/provenance.json")
    said["settings"] |= {"model": "owner/teacher", "revision": COMMIT}
    write_json(folder / "base/provenance.json", said)
    tokenizer = AutoTokenizer.from_pretrained(folder / "base")
    texts = families.sentences("qaa")[:30]
    kept = {*tokenizer.all_special_ids, *range(5)}.union(*tokenizer(texts)["input_ids"])
    families.reduce_model(
        folder / "base", dict.fromkeys(sorted(kept), "listed"), folder / "reduced"
    )
    options = {"reduced": folder / "reduced", "base": str(folder / "base")}
    recipe.write(RecipeOptions(**options, output=folder / "recipe.json"))
    return folder


def rebuild(made, output, base="base", file="recipe.json"):
    recipe.rebuild(RebuildOptions(recipe=made / file, base=made / base, output=output))


def test_a_recipe_gives_the_same_bytes(made, tmp_path):
    rebuild(made, tmp_path / "again")
    assert recipe.files_of(tmp_path / "again") == recipe.files_of(made / "reduced")
    assert "model.safetensors" in recipe.files_of(tmp_path / "again")
    assert read_sentence(tmp_path / "again") == read_sentence(made / "reduced")
    written = read_json(made / "recipe.json")
    assert written["base"]["model"] == "owner/teacher"
    assert len(written["kept"].split()) == written["tokens"]
    # An id takes two or three characters: 30,000 are 100 KB.
    assert (made / "recipe.json").stat().st_size < 5 * written["tokens"] + 3000


def test_the_model_as_it_is_on_the_hub_is_fetched_as_it_was(made, tmp_path, monkeypatch):
    asked = []

    def snapshot(model, revision=None):
        asked.append((model, revision))
        return made / "hub" if model == "owner/teacher" else recipe.Path(model)

    monkeypatch.setattr(recipe, "local_folder", snapshot)
    recipe.rebuild(RebuildOptions(recipe=made / "recipe.json", output=tmp_path / "again"))
    assert recipe.files_of(tmp_path / "again") == recipe.files_of(made / "reduced")
    assert asked == [("owner/teacher", COMMIT)]
    assert [path.name for path in tmp_path.iterdir()] == ["again"]


def test_another_revision_is_refused(made, tmp_path):
    other = tmp_path / "other"
    families.make_teacher("distilbert", other)
    with pytest.raises(
        InputError, match=rf"files differ .* recipe is of owner/teacher at {COMMIT}"
    ):
        rebuild(made, tmp_path / "again", other)
    write_json(other / "provenance.json", {"settings": {"revision": "b" * 40}})
    with pytest.raises(InputError, match=r"is revision bbb.*, and the recipe is of owner/teacher"):
        rebuild(made, tmp_path / "again", other)
    assert not (tmp_path / "again").exists()


def test_weights_that_come_out_otherwise_are_not_written(made, tmp_path):
    damaged = read_json(made / "recipe.json")
    damaged["files"]["model.safetensors"] = "0" * 64
    write_json(tmp_path / "damaged.json", damaged)
    with pytest.raises(Failure, match=r"damaged.json: model.safetensors came out otherwise"):
        rebuild(made, tmp_path / "again", file=tmp_path / "damaged.json")
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize(
    ("content", "said"), [("[]", "expected an object of JSON"), ('{"format": 9}', "no recipe of")]
)
def test_what_is_no_recipe(made, tmp_path, content, said):
    (tmp_path / "file.json").write_text(content)
    with pytest.raises(InputError, match=said):
        rebuild(made, tmp_path / "again", file=tmp_path / "file.json")
    for change, problem in (
        ({"kept": "a b"}, "kept: expected whole numbers"),
        ({"base": {}}, "base.model: missing"),
        ({"files": {}}, "files: has no checksum of model.safetensors"),
    ):
        changed = json.loads((made / "recipe.json").read_text()) | change
        write_json(tmp_path / "file.json", changed)
        with pytest.raises(InputError, match=problem):
            rebuild(made, tmp_path / "again", file=tmp_path / "file.json")
    later = json.loads((made / "recipe.json").read_text()) | {"format": 2}
    write_json(tmp_path / "file.json", later)
    with pytest.raises(InputError, match="has format 2; this version reads 1"):
        rebuild(made, tmp_path / "again", file=tmp_path / "file.json")


def test_a_recipe_of_another_base_or_of_no_hub(made, tmp_path):
    options = {"reduced": made / "reduced", "output": tmp_path / "recipe.json"}
    with pytest.raises(InputError, match=r"was not reduced from .*hub, whose files differ"):
        recipe.write(RecipeOptions(**options, base=str(made / "hub")))
    families.reduce_model(made / "hub", dict.fromkeys(range(300), "listed"), tmp_path / "reduced")
    with pytest.raises(InputError, match="no commit of a hub is known for it"):
        recipe.write(
            RecipeOptions(
                reduced=tmp_path / "reduced",
                base=str(made / "hub"),
                output=tmp_path / "recipe.json",
            )
        )
