# Each recipe tried for a few steps on one core, before hours of GPU are spent on it.


rule smoke:
    input:
        # Of students that cut the text as their teacher does.
        [
            smoke_result(*pair)
            for pair in layout.distillations()
            if pair[0] not in amplified_students()
        ],


rule smoke_student:
    input:
        documents="results/corpora/{corpus}/documents",
        teacher=smoke_teacher,
    output:
        f"{SMOKE}/{{student}}-{{corpus}}-{{settings}}.json",
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
        start=lambda wildcards: (
            "tokenizer" if trained_from_nothing(wildcards) else "teacher"
        ),
        options=lambda wildcards: smoke_options(wildcards.student, wildcards.corpus),
    shell:
        "python -m eliquare.smoke --documents {input.documents} --{params.start} {input.teacher}"
        " {params.options} --output {output} > {log} 2>&1"
