# Each recipe tried for a few steps on one core, before hours of GPU are spent on it.


rule smoke:
    input:
        [trials.of_student(*pair) for pair in layout.distillations()],


rule smoke_student:
    input:
        documents="results/corpora/{corpus}/documents",
        teacher=lambda wildcards: trials.start(
            recipe_of(wildcards)["teacher"], wildcards.corpus
        ),
    output:
        "results/smoke/{student}-{corpus}-{settings}.json",
    log:
        "logs/smoke_student/{student}-{corpus}-{settings}.log",
    wildcard_constraints:
        settings="[0-9a-f]{8}",
    priority: 100
    conda:
        "../../envs/eliquare.yaml"
    resources:
        mem_mb=memory(4000, 5, of=["teacher"]),
        runtime=minutes(30),
    params:
        # No version: a recipe that was tried is not tried again because trying became better.
        start=lambda wildcards: trials.start_option(recipe_of(wildcards)["teacher"]),
        options=lambda wildcards: trials.student_options(
            wildcards.student, wildcards.corpus
        ),
    shell:
        "python -m eliquare.smoke --documents {input.documents} --{params.start} {input.teacher}"
        " {params.options} --output {output} > {log} 2>&1"


rule smoke_teacher:
    input:
        documents="results/corpora/{corpus}/documents",
        teacher=lambda wildcards: trials.start(wildcards.teacher, wildcards.corpus),
    output:
        "results/smoke/teachers/{teacher}-{corpus}-{settings}.json",
    log:
        "logs/smoke_teacher/{teacher}-{corpus}-{settings}.log",
    wildcard_constraints:
        settings="[0-9a-f]{8}",
    priority: 100
    conda:
        "../../envs/eliquare.yaml"
    resources:
        mem_mb=memory(4000, 5, of=["teacher"]),
        runtime=minutes(30),
    params:
        start=lambda wildcards: trials.start_option(wildcards.teacher),
        options=lambda wildcards: trials.teacher_options(
            wildcards.teacher, wildcards.corpus
        ),
    shell:
        "python -m eliquare.smoke --documents {input.documents} --{params.start} {input.teacher}"
        " {params.options} --output {output} > {log} 2>&1"
