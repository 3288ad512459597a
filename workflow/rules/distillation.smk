# The one expensive step, and the reduction of a student after it.


rule distill:
    input:
        teachers=lambda wc: paths.teacher_models(wc.student, wc.corpus),
        start=extended_teacher,
        sequences=lambda wc: distillation_data(wc, "sequences"),
        masking=lambda wc: distillation_data(wc, "masking"),
    output:
        directory("<results>/students/{student}/{corpus}/model"),
    log:
        "<logs>/distill/{student}-{corpus}.log",
    benchmark:
        "<results>/costs/distill/{student}-{corpus}.tsv"
    wildcard_constraints:
        student=one_of(students_that(lambda each: not each.extension and not each.reduced_from)),
    priority: FIRST
    conda:
        "../../envs/eliquare.yaml"
    threads: lambda wc: recipe(wc).training.threads * recipe(wc).training.gpus
    resources:
        gpu=lambda wc: recipe(wc).training.gpus,
        nodes=1,
        # A student is counted as large as its teacher.
        mem_mb=lambda wc, input, attempt: training_memory(
            attempt, recipe(wc).training, *input.teachers, input.teachers[0]
        ),
        runtime=lambda wc, input, attempt: training_minutes(
            attempt,
            recipe(wc).training,
            input.sequences,
            [stored_parameters(model) for model in (*input.teachers, input.teachers[0])],
        ),
    params:
        version=version("distillation", "distill"),
        room="distillation",
        start=lambda wc, input: options.words({"start_from": input.start or None}),
        options=lambda wc: options.distillation(settings, wc.student),
        launcher=lambda wc: options.launcher(recipe(wc).training),
        threads=lambda wc, resources: recipe(wc).training.threads,
        execution=lambda wc, resources: execution(recipe(wc).training, resources),
        requeue=requeue,
    message:
        "Distill {wildcards.student} on {wildcards.corpus}"
    shell:
        "OMP_NUM_THREADS={params.threads:q} {params.launcher:q} {params.room:q} distill"
        " --teachers {input.teachers:q} {params.start:q} --sequences {input.sequences:q}"
        " --masking {input.masking:q} {params.options:q} {params.execution:q} --output {output:q}"
        " > {log:q} 2>&1 {params.requeue}"


# A student with an extended vocabulary segments the text differently from its teacher.
use rule distill as distill_extended with:
    benchmark:
        "<results>/costs/distill_extended/{student}-{corpus}.tsv"
    wildcard_constraints:
        student=one_of(students_that(lambda student: student.extension)),
    params:
        version=version("extension", "distill"),
        room="extension",


use rule reduce_teacher as reduce_student with:
    input:
        model=original_student,
        vocabulary=lambda wc: paths.vocabulary_file(
            wc.language, recipe(wc).teacher, recipe(wc).vocabulary
        ),
        documents="<results>/corpora/{language}/documents",
    output:
        directory("<results>/students/{student}/{language}/model"),
    log:
        "<logs>/reduce_student/{student}-{language}.log",
    benchmark:
        "<results>/costs/reduce_student/{student}-{language}.tsv"
    wildcard_constraints:
        student=one_of(students_that(lambda student: student.reduced_from)),
    message:
        "Reduce {wildcards.student} to {wildcards.language}"


# A step of its own, so that one more task does not make the student itself again.
rule verify_student:
    input:
        model=original_student,
        reduced="<results>/students/{student}/{language}/model",
        documents="<results>/corpora/{language}/documents",
        tasks=lambda wc: training_texts(wc.language),
    output:
        "<results>/students/{student}/{language}/verification.json",
    log:
        "<logs>/verify_student/{student}-{language}.log",
    benchmark:
        "<results>/costs/verify_student/{student}-{language}.tsv"
    conda:
        "../../envs/eliquare.yaml"
    resources:
        mem_mb=lambda wc, input, attempt: memory(attempt, 2000, 2, input.model),
        runtime=lambda wc, attempt: minutes(attempt, 30),
    params:
        version=version("vocabulary", "verify"),
        tasks=lambda wc: named_texts(wc.language),
    message:
        "Verify that reducing {wildcards.student} changed nothing for {wildcards.language}"
    shell:
        "python -m eliquare vocabulary verify --model {input.model:q} --reduced {input.reduced:q}"
        " --sample {input.documents:q} {params.tasks:q} --output {output:q} > {log:q} 2>&1"
