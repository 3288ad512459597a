"""What new tokens do to the text: lower fertility, more parameters."""

from pathlib import Path

from pydantic import Field

from eliquare.io import atomic_write, read_json, write_json
from eliquare.models.loading import (
    has_mlm_head,
    load_config,
    load_fast_tokenizer,
    load_model,
    parameter_count,
    quiet,
)
from eliquare.vocabulary.report import MeasuredTexts, measure_all, texts_table


class ReportOptions(MeasuredTexts):
    """Options of ``extension report``."""

    model: Path = Field(description="Folder of the teacher.")
    extended: Path = Field(description="Folder of the teacher with new tokens.")
    output: Path = Field(description="Report to write (JSON).")


def report(options: ReportOptions) -> None:
    """Measure corpus and tasks before and after the extension; write and print the report.

    It has the form of ``vocabulary report``'s.
    """
    quiet()
    models = {"before": options.model, "after": options.extended}
    tokenizers = {name: load_fast_tokenizer(folder) for name, folder in models.items()}
    old, new = (set(tokenizer.get_vocab()) for tokenizer in tokenizers.values())
    extension = read_json(options.extended / "extension.json")
    head = has_mlm_head(load_model(options.extended))
    result = {
        "tokens": {"selected": len(new & old), "of": len(old), "new": len(new - old)},
        "parameters": {
            name: parameter_count(load_config(folder), head) for name, folder in models.items()
        },
        "token_coverage": None,
        "extension": extension,
        "texts": measure_all(tokenizers, options),
    }
    with atomic_write(options.output) as partial:
        write_json(partial, result)
    print("{new:,} new tokens, {selected:,} of the old {of:,}".format(**result["tokens"]))
    print("parameters: {before:,} before, {after:,} after".format(**result["parameters"]))
    print(texts_table(result["texts"]))
    for point in extension["curve"][::5]:
        print("{added:>10,} new tokens: {fertility:.3f} tokens per word".format(**point))
