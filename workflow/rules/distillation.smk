# The one expensive step, and the cut afterwards.


rule distilled_student:
    input:
        teacher=distillation_teacher,
        others=lambda wildcards: layout.other_teachers(
            wildcards.student, wildcards.corpus
        ),
        student="results/students/{student}/{corpus}/initial",
        sequences=distillation_data("sequences"),
        masking=distillation_data("masking"),
        tried=tried_student,
    output:
        directory("results/students/{student}/{corpus}/distilled"),
    log:
        "logs/distilled_student/{student}-{corpus}.log",
    wildcard_constraints:
        student=one_of(other_students()),
    conda:
        "../../envs/eliquare.yaml"
    threads: cores(recipe_training)
    resources:
        **shares_of_teacher_pass(whole=True),
        gpu=processes(recipe_training),
        processes=processes(recipe_training),
        nodes=1,
        mem_mb=for_the_group(training_memory(recipe_training, ["teacher", "student"])),
        runtime=for_the_group(training_minutes(recipe_training, ["teacher", "student"])),
    params:
        version=version("eliquare.distillation.training"),
        launcher=lambda wildcards: launcher(recipe_of(wildcards)["training"]),
        options=lambda wildcards: commands.distillation(
            wildcards.student, wildcards.corpus
        ),
        checkpoints=checkpoints(recipe_training),
        beside=beside,
    shell:
        THREADS_OF_A_PROCESS
        + "{params.launcher} eliquare.distillation.training --teacher {input.teacher}"
        " --student {input.student} --sequences {input.sequences} --masking {input.masking}"
        " {params.options} {params.beside} {params.checkpoints}"
        " --threads $OMP_NUM_THREADS --output {output}"
        + STOP_IN_TIME
        + " > {log} 2>&1"
        + GO_ON_LATER


# A student with new sub-words cuts the text otherwise than its teacher.
rule amplified_student:
    input:
        teacher=distillation_teacher,
        student="results/students/{student}/{corpus}/initial",
        sequences=distillation_data("sequences"),
        masking=distillation_data("masking"),
        tried=tried_student,
    output:
        directory("results/students/{student}/{corpus}/distilled"),
    log:
        "logs/distilled_student/{student}-{corpus}.log",
    wildcard_constraints:
        student=one_of(amplified_students()),
    conda:
        "../../envs/eliquare.yaml"
    threads: cores(recipe_training)
    resources:
        gpu=processes(recipe_training),
        processes=processes(recipe_training),
        nodes=1,
        mem_mb=training_memory(recipe_training, ["teacher", "student"]),
        runtime=training_minutes(recipe_training, ["teacher", "student"]),
    params:
        version=version("eliquare.distillation.paired"),
        launcher=lambda wildcards: launcher(recipe_of(wildcards)["training"]),
        options=lambda wildcards: commands.distillation(
            wildcards.student, wildcards.corpus
        ),
        checkpoints=checkpoints(recipe_training),
    shell:
        THREADS_OF_A_PROCESS
        + "{params.launcher} eliquare.distillation.paired --teacher {input.teacher}"
        " --student {input.student} --sequences {input.sequences} --masking {input.masking}"
        " {params.options} {params.checkpoints} --threads $OMP_NUM_THREADS --output {output}"
        + STOP_IN_TIME
        + " > {log} 2>&1"
        + GO_ON_LATER


rule reduced_student:
    input:
        model=student_before_its_cut,
        kept=lambda wildcards: layout.prepared(
            wildcards.language,
            recipe_of(wildcards)["teacher"],
            recipe_of(wildcards)["rule"],
        )
        / "kept.csv",
        documents="results/corpora/{language}/documents",
    output:
        directory("results/students/{student}/{language}/reduced"),
    log:
        "logs/reduced_student/{student}-{language}.log",
    conda:
        "../../envs/eliquare.yaml"
    resources:
        mem_mb=memory(2000, 3, of=["model"]),
        runtime=minutes(30),
    params:
        version=version("eliquare.vocabulary.reduce"),
    shell:
        "python -m eliquare.vocabulary.reduce --model {input.model} --keep {input.kept}"
        " --sample {input.documents} --output {output} > {log} 2>&1"


# A step of its own: one more task to compare on makes the student itself not again.
rule verified_student:
    input:
        model=student_before_its_cut,
        reduced="results/students/{student}/{language}/reduced",
        documents="results/corpora/{language}/documents",
        tasks=lambda wildcards: texts_of_tasks(wildcards.language).values(),
    output:
        "results/students/{student}/{language}/verification.json",
    log:
        "logs/verified_student/{student}-{language}.log",
    conda:
        "../../envs/eliquare.yaml"
    resources:
        mem_mb=memory(2000, 2, of=["model"]),
        runtime=minutes(30),
    params:
        version=version("eliquare.vocabulary.verify"),
        tasks=lambda wildcards: options_of_tasks(wildcards.language),
    shell:
        "python -m eliquare.vocabulary.verify --model {input.model} --reduced {input.reduced}"
        " --sample {input.documents} {params.tasks} --output {output} > {log} 2>&1"
