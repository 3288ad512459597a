"""What new sub-words do to the text: shorter words, more parameters, beside the whole vocabulary.

python -m eliquare.vocabulary.amplified_report --model TEACHER --amplified AMPLIFIED
    --documents DOCUMENTS --task NAME=FILE --output report.json
"""

import argparse
from pathlib import Path
from typing import Any

from tabulate import tabulate
from transformers import AutoConfig

from eliquare import stage
from eliquare.vocabulary import tokenizer as surgery
from eliquare.vocabulary.options import add_measured_texts
from eliquare.vocabulary.report import DOCUMENTS, measure_texts, table_of_texts
from eliquare.vocabulary.sample import sample_texts
from eliquare.vocabulary.texts import task_texts
from eliquare.vocabulary.weights import parameter_count

VERSION = 1


def report(
    model: str | Path,
    amplified: str | Path,
    documents: str | Path,
    tasks: dict[str, str],
    sample: int = DOCUMENTS,
) -> dict[str, Any]:
    """The report, in the form of eliquare.vocabulary.report's.

    "before" is the whole model, "after" the amplified one. ``kept`` are the sub-words of the whole
    model that are still there, ``new`` the others.
    """
    made = stage.read_json(Path(amplified) / "amplification.json")
    tokenizers = {
        "before": surgery.load_tokenizer(model),
        "after": surgery.load_tokenizer(amplified),
    }
    old, new = (set(tokenizer.get_vocab()) for tokenizer in tokenizers.values())
    texts = {"corpus": measure_texts(tokenizers, sample_texts(documents, sample))}
    texts |= {name: measure_texts(tokenizers, task_texts(path)) for name, path in tasks.items()}
    return {
        "sub_words": {"kept": len(new & old), "of": len(old), "new": len(new - old)},
        "parameters": {
            "before": parameter_count(AutoConfig.from_pretrained(model)),
            "after": parameter_count(AutoConfig.from_pretrained(amplified)),
        },
        "share_of_running_text": None,
        "amplification": made,
        "texts": texts,
    }


def table(result: dict[str, Any]) -> str:
    """The report for people."""
    subwords, parameters = result["sub_words"], result["parameters"]
    curve = [
        [f"{point['added']:,}", f"{point['sub_words_per_word']:.3f}"]
        for point in result["amplification"]["curve"][::5]
    ]
    return "\n".join(
        [
            f"{subwords['new']:,} new sub-words beside {subwords['kept']:,} of the whole model's "
            f"{subwords['of']:,}",
            f"parameters: {parameters['before']:,} before, {parameters['after']:,} after",
            table_of_texts(result["texts"]),
            tabulate(curve, ["added", "sub-words per word"], disable_numparse=True),
        ]
    )


def parser() -> argparse.ArgumentParser:
    """The options of this stage."""
    result = argparse.ArgumentParser(
        prog="python -m eliquare.vocabulary.amplified_report", description=__doc__.split("\n\n")[0]
    )
    result.add_argument("--model", required=True, help="folder of the whole model")
    result.add_argument("--amplified", required=True, help="folder of the amplified model")
    add_measured_texts(result, DOCUMENTS)
    result.add_argument("--output", required=True, help="report to write (JSON)")
    return result


def run(arguments: argparse.Namespace) -> None:
    """Measure, print a table and write the report."""
    result = report(
        arguments.model,
        arguments.amplified,
        arguments.documents,
        dict(arguments.task),
        arguments.sample,
    )
    with stage.whole_file(arguments.output) as beside:
        stage.write_json(beside, result)
    print(table(result))


if __name__ == "__main__":
    stage.main(parser(), run)
