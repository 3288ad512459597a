"""Scores by their right names."""

from collections.abc import Sequence

MAIN_METRIC = {
    "upos": "accuracy",
    "ner": "entity_f1",
    "classification": "macro_f1",
    "pair": "accuracy",
}


def score(kind: str, gold: Sequence, predicted: Sequence) -> dict[str, float]:
    """The metrics of a kind of task, each from 0 to 1.

    For upos and ner, gold and predicted hold a list of tags for each sentence; otherwise a label
    for each text. ner: precision, recall and F1 of whole entities over all types (micro average)
    by seqeval, strict, in IOB2: an entity counts if its type and both its ends are right, and one
    that does not begin with B- is none. Otherwise accuracy, and macro-F1 over all labels that
    occur in gold or predicted, by scikit-learn.
    """
    if kind == "ner":
        return entity_scores(gold, predicted)
    if kind == "upos":
        gold = [tag for sentence in gold for tag in sentence]
        predicted = [tag for sentence in predicted for tag in sentence]
    from sklearn.metrics import accuracy_score, f1_score

    return {
        "accuracy": float(accuracy_score(gold, predicted)),
        "macro_f1": float(f1_score(gold, predicted, average="macro", zero_division=0)),
    }


def entity_scores(
    gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]
) -> dict[str, float]:
    """Entity-level F1, precision and recall of IOB2 tags, one list for each sentence."""
    from seqeval.metrics.v1 import precision_recall_fscore_support
    from seqeval.scheme import IOB2

    gold, predicted = [list(tags) for tags in gold], [list(tags) for tags in predicted]
    precision, recall, f1, _ = precision_recall_fscore_support(
        gold, predicted, average="micro", scheme=IOB2, zero_division=0
    )
    return {
        "entity_f1": float(f1),
        "entity_precision": float(precision),
        "entity_recall": float(recall),
    }
