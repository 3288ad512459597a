# Students that share a pass of their teacher: `experiment: {share_teacher: true}`.
#
# Each keeps a job of its own, with the inputs and parameters that it always has, so that neither
# the key nor one more student makes anything again. Whichever job of a group runs first trains all
# of its students side by side, each into its own checkpoints; the others' jobs find theirs done.

from eliquare import sharing

GROUPS = sharing.groups(config, layout)

for number, group in enumerate(GROUPS):
    workflow.register_resource(f"teacher_pass_{number}", len(group))


def group_of(wildcards):
    """The number of a student's group; None if it has none."""
    for number, group in enumerate(GROUPS):
        if (wildcards.student, wildcards.corpus) in group:
            return number


def shares_of_teacher_pass(whole):
    """One resource for each group, of which there is as much as the group has students.

    A student is distilled with the whole of it, so that no two of a group are at the same time; it
    is initialised with one share, so that the group is not distilled before all have begun.
    """

    def share(number):
        amount = len(GROUPS[number]) if whole else 1
        return lambda wildcards: amount if group_of(wildcards) == number else None

    return {f"teacher_pass_{number}": share(number) for number in range(len(GROUPS))}


def for_the_group(amount, most=round):
    """Memory or minutes of whoever trains first: for all students of its group."""

    def of_all(wildcards, input, attempt):
        number = group_of(wildcards)
        students = 1 if number is None else len(GROUPS[number])
        return most(students * amount(wildcards, input, attempt))

    return of_all


def beside(wildcards, resources):
    """The options that train the others of a student's group beside it.

    Snakemake leaves a parameter that is made from resources out of what it compares with the last
    run, so that a change of the group makes nothing again.
    """
    number = group_of(wildcards)
    own = (wildcards.student, wildcards.corpus)
    others = [] if number is None else [each for each in GROUPS[number] if each != own]
    return " ".join(f"--beside {quoted(student_beside(*other))}" for other in others)


def student_beside(student, corpus):
    start = layout.student(student, corpus, "initial")
    output = layout.student(student, corpus, "distilled")
    return (
        f"--student {start} --output {output} {commands.distillation(student, corpus)}"
    )
