"""Whether the keys of one entry belong together: of a corpus, a teacher, a student, a task."""

import copy
from pathlib import Path

from eliquare.distillation.terms import check_paired, resolved, terms
from eliquare.stage import InputError

# For each source: the keys that it needs, and those that it may have beside what all have.
CORPUS_KEYS = {
    "dump": ([], ["wiki", "date", "mirror", "file", "expand_templates", "max_documents"]),
    "text": (["files"], ["document"]),
    "dataset": (["dataset"], ["configuration", "split", "column", "revision"]),
}
SHAPE = ["kind", "layers", "hidden_size", "intermediate_size", "heads", "max_positions", "dropout"]
TEACHER_KEYS = {
    "hub": (["model", "revision"], []),
    "folder": (["model"], []),
    "pretrain": (["corpus"], ["tokenizer", "vocabulary_size", *SHAPE, "training"]),
    "condition": (["teacher"], ["training"]),
}
# What a student that is cut after its training says itself; all else is its `of`'s.
POST_KEYS = ("like", "label", "published_as", "vocabulary", "rule", "of", "languages")


def check_keys(entry: dict, keys: dict[str, tuple[list[str], list[str]]], where: str) -> None:
    """An entry has the keys that its source needs, and none that only another source reads."""
    source = entry["source"]
    needed, possible = keys[source]
    for key in needed:
        if key not in entry:
            raise InputError(f"{where}: source {source} needs the key {key!r}")
    for key in (key for both in keys.values() for some in both for key in some):
        if key in entry and key not in needed + possible:
            raise InputError(f"{where}.{key}: source {source} does not read this key; remove it")


def check_written(config: dict, source: str) -> None:
    """Refuse keys that nothing would read, before defaults stand beside what was written."""
    for code, language in config["languages"].items():
        check_keys(language["corpus"], CORPUS_KEYS, f"{source}: languages.{code}.corpus")
    for name, teacher in config["teachers"].items():
        check_keys(teacher, TEACHER_KEYS, f"{source}: teachers.{name}")
    for name, student in config.get("students", {}).items():
        for key in student if student.get("vocabulary") == "post" else ():
            if key not in POST_KEYS:
                raise InputError(
                    f"{source}: students.{name}.{key}: a student cut after its training has what "
                    "its `of` has; remove this key, or change it there"
                )


def check_teacher(name: str, config: dict, where: str) -> None:
    """A teacher has the keys that its source needs, and if trained a budget and a sound shape."""
    teacher = config["teachers"][name]
    if teacher["source"] in ("pretrain", "condition"):
        check_budget(teacher["training"], f"{where}.training")
        if teacher["training"]["steps"] == 0:
            raise InputError(f"{where}.training.steps: 0 trains no teacher; give at least 1")
    if teacher["source"] == "pretrain":
        check_heads(teacher, where)
        longest = config["sequences"]["max_length"]
        if longest > teacher["max_positions"]:
            raise InputError(
                f"{where}.max_positions: {teacher['max_positions']} is less than "
                f"sequences.max_length, {longest}"
            )
    seen = [name]
    while teacher["source"] == "condition":
        if teacher["teacher"] in seen:
            raise InputError(f"{where}.teacher: {teacher['teacher']} is conditioned from itself")
        seen.append(teacher["teacher"])
        teacher = config["teachers"][teacher["teacher"]]


def check_heads(shape: dict, where: str) -> None:
    """The width is a multiple of the number of heads."""
    if shape["hidden_size"] % shape["heads"]:
        raise InputError(
            f"{where}.hidden_size: {shape['hidden_size']} is no multiple of {shape['heads']} heads"
        )


def check_budget(training: dict, where: str) -> None:
    """Steps or epochs, and not both."""
    if (training["steps"] is None) == (training["epochs"] is None):
        raise InputError(f"{where}: give steps or epochs, and not both")


def check_student(student: dict, config: dict, where: str) -> None:
    """A student's vocabulary, teacher and budget fit together."""
    vocabulary = student["vocabulary"]
    if vocabulary == "post":
        check_post(student, config["students"], where)
        return
    if student["of"] is not None:
        raise InputError(f"{where}.of: belongs to vocabulary post alone")
    check_amplified(student, where)
    if vocabulary == "pre" and student["rule"] is None:
        raise InputError(f"{where}: vocabulary pre needs `rule`, the name of one of vocabularies")
    if vocabulary == "full" and student["rule"] is not None:
        raise InputError(
            f"{where}.rule: vocabulary full has no rule; write vocabulary: pre, or rule: null"
        )
    if "teacher" not in student:
        raise InputError(f"{where}: the key 'teacher' is missing")
    check_budget(student["training"], f"{where}.training")
    check_shape(student, root(config["teachers"], student["teacher"]), where)
    # Written out in full, so that what is said otherwise but means the same trains nothing again.
    asked = terms(student["objective"], f"{where}.objective.")
    if vocabulary == "amplified":
        check_paired(asked, f"{where}.objective.")
    student["objective"] = resolved(asked)
    check_teachers(student, config["teachers"], where)


def check_teachers(student: dict, teachers: dict, where: str) -> None:
    """The student's own teacher is one of several, and all are cut to one vocabulary."""
    several, own = student["teachers"], student["teacher"]
    if several is None:
        return
    if own not in several:
        raise InputError(f"{where}.teachers: give {own}, its teacher, a weight among them")
    if student["vocabulary"] == "amplified":
        raise InputError(f"{where}.teachers: a student with new sub-words has one teacher")
    for name in several:
        if student["vocabulary"] == "pre" and root_name(teachers, name) != root_name(teachers, own):
            raise InputError(
                f"{where}.teachers: {name} is not cut to the vocabulary of {own}; with vocabulary "
                "pre, several teachers are one model, conditioned on the language or not"
            )


def root_name(teachers: dict, name: str) -> str:
    """The name of the teacher that this one was conditioned from, or its own."""
    entry = teachers[name]
    return root_name(teachers, entry["teacher"]) if entry["source"] == "condition" else name


def check_amplified(student: dict, where: str) -> None:
    """A student has an amplification where its vocabulary is amplified, and only there."""
    amplified = student["vocabulary"] == "amplified"
    if amplified and student["amplification"] is None:
        raise InputError(
            f"{where}: vocabulary amplified needs `amplification`, the name of one of "
            "amplifications"
        )
    if not amplified and student["amplification"] is not None:
        raise InputError(
            f"{where}.amplification: belongs to vocabulary amplified alone; write "
            "amplification: null"
        )
    if amplified and student["rule"] is not None:
        raise InputError(
            f"{where}.rule: an amplified student starts from the rule of its amplification; write "
            "rule: null"
        )


def check_amplification(amplification: dict, where: str) -> None:
    """Either a number or a gain; vectors where similarities are asked for."""
    if amplification["add"] is not None and amplification["gain"] is not None:
        raise InputError(f"{where}: give add or gain, and not both")
    if amplification["vectors"] is not None and amplification["initialisation"] != "similar":
        raise InputError(f"{where}.vectors: belongs to initialisation similar alone")


def check_post(student: dict, students: dict, where: str) -> None:
    """A student that is cut after its training is, but for that, the student it is cut from."""
    if student["of"] is None or student["rule"] is None:
        raise InputError(f"{where}: vocabulary post needs `of` (the student to cut) and `rule`")
    of = students[student["of"]]
    if of["vocabulary"] != "full":
        raise InputError(f"{where}.of: {student['of']} has no full vocabulary to cut")
    if of["training"]["steps"] == 0:
        raise InputError(f"{where}.of: {student['of']} is not trained (training.steps is 0)")
    for key, value in of.items():
        if key not in ("label", "published_as", "vocabulary", "rule", "of", "languages"):
            student[key] = copy.deepcopy(value)
    student["objective"] = resolved(terms(student["objective"], f"{where}.objective."))


def root(teachers: dict, name: str) -> dict:
    """The teacher that this one was conditioned from, or itself."""
    entry = teachers[name]
    return root(teachers, entry["teacher"]) if entry["source"] == "condition" else entry


def check_shape(student: dict, teacher: dict, where: str) -> None:
    """The student can be made from a teacher whose shape the configuration tells."""
    if teacher["source"] != "pretrain":
        return
    layers = student["layers"]
    if layers > teacher["layers"]:
        raise InputError(
            f"{where}.layers: {layers}, and its teacher has {teacher['layers']}; a student has no "
            "more layers than its teacher"
        )
    if student["initialisation"] == "2n-1" and 2 * layers - 1 > teacher["layers"]:
        raise InputError(
            f"{where}.initialisation: 2n-1 takes layer {2 * layers - 1} of a teacher that has "
            f"{teacher['layers']}; use distilbert, first or last"
        )
    keys = ("hidden_size", "intermediate_size", "heads")
    shape = {key: student[key] or teacher[key] for key in keys}
    check_heads(shape, where)
    if student["initialisation"] != "blank" and shape["hidden_size"] != teacher["hidden_size"]:
        raise InputError(
            f"{where}.hidden_size: a width other than the teacher's {teacher['hidden_size']} "
            "cannot start from the teacher; write initialisation: blank"
        )


def check_system(system: dict, where: str) -> None:
    """A system is a pinned model of a hub, a folder, or a teacher that is only cut."""
    cut = {"teacher", "rule"} & set(system)
    if ("model" in system) == bool(cut) or len(cut) == 1:
        raise InputError(f"{where}: give model, or teacher and rule")
    if "model" in system and "revision" not in system and not Path(system["model"]).is_dir():
        raise InputError(
            f"{where}: {system['model']} is no folder here; if it is an id on the hub, give the "
            "commit as revision"
        )


def check_files(config: dict, source: str) -> None:
    """The experiment's task files are there, but for those that the workflow itself writes."""
    for name in config["experiment"]["tasks"]:
        for split in ("train", "validation", "test"):
            path = config["tasks"][name].get(split)
            written = "world" in config and str(path).startswith("resources/demo/")
            if path is not None and not written and not Path(path).exists():
                raise InputError(
                    f"{source}: tasks.{name}.{split}: {path} is not there; put the file in place, "
                    "or take the task out of experiment.tasks"
                )


def check_task(task: dict, where: str) -> None:
    """A task's keys fit its kind."""
    if task["kind"] == "pair" and "second_column" not in task:
        raise InputError(f"{where}: kind pair needs second_column, the column of the second text")
    if task["kind"] != "pair" and "second_column" in task:
        raise InputError(f"{where}.second_column: belongs to kind pair alone")
