# Teachers, other systems, and students at their start.


rule fetch_teacher:
    input:
        lambda wildcards: local_files(teacher_of(wildcards)),
    output:
        directory("results/teachers/{teacher}/model"),
    log:
        "logs/fetch_teacher/{teacher}.log",
    wildcard_constraints:
        teacher=one_of(teachers_from("hub", "folder")),
    cache: SHARED
    localrule: True
    conda:
        "../../envs/eliquare.yaml"
    params:
        version=version("eliquare.models.fetch"),
        options=lambda wildcards: options(
            {key: teacher_of(wildcards).get(key) for key in ("model", "revision")}
        ),
    shell:
        "python -m eliquare.models.fetch {params.options} --output {output} > {log} 2>&1"


rule fetch_system:
    input:
        lambda wildcards: local_files(config["systems"][wildcards.system]),
    output:
        directory("results/systems/{system}/model"),
    log:
        "logs/fetch_system/{system}.log",
    wildcard_constraints:
        system=one_of(config["systems"]),
    cache: SHARED
    localrule: True
    conda:
        "../../envs/eliquare.yaml"
    params:
        version=version("eliquare.models.fetch"),
        options=lambda wildcards: options(
            {
                key: config["systems"][wildcards.system].get(key)
                for key in ("model", "revision")
            }
        ),
    shell:
        "python -m eliquare.models.fetch {params.options} --any-model --output {output}"
        " > {log} 2>&1"


rule teacher_tokenizer:
    input:
        lambda wildcards: layout.documents(teacher_of(wildcards)["corpus"]),
    output:
        directory("results/teachers/{teacher}/tokenizer"),
    log:
        "logs/teacher_tokenizer/{teacher}.log",
    wildcard_constraints:
        teacher=one_of(teachers_from("pretrain")),
    conda:
        "../../envs/eliquare.yaml"
    threads: 2
    resources:
        mem_mb=memory(4000, 4, of="*"),
        runtime=minutes(60, 0.1, of="*"),
    params:
        version=version("eliquare.models.tokenizer"),
        options=lambda wildcards: options(
            {
                "kind": teacher_of(wildcards)["tokenizer"],
                "vocabulary_size": teacher_of(wildcards)["vocabulary_size"],
            }
        ),
    shell:
        "python -m eliquare.models.tokenizer --documents {input} {params.options}"
        " --output {output} > {log} 2>&1"


rule pretrained_teacher:
    input:
        tokenizer="results/teachers/{teacher}/tokenizer",
        sequences=pretraining_data("sequences"),
        masking=pretraining_data("masking"),
        tried=tried_teacher,
    output:
        directory("results/teachers/{teacher}/model"),
    log:
        "logs/pretrained_teacher/{teacher}.log",
    wildcard_constraints:
        teacher=one_of(teachers_from("pretrain")),
    conda:
        "../../envs/eliquare.yaml"
    threads: cores(teacher_training)
    resources:
        gpu=processes(teacher_training),
        processes=processes(teacher_training),
        nodes=1,
        mem_mb=training_memory(teacher_training, []),
        runtime=training_minutes(teacher_training, []),
    params:
        version=version("eliquare.models.mlm"),
        launcher=lambda wildcards: launcher(teacher_of(wildcards)["training"]),
        options=lambda wildcards: commands.teacher(wildcards.teacher),
        checkpoints=checkpoints(teacher_training),
    shell:
        THREADS_OF_A_PROCESS
        + "{params.launcher} eliquare.models.mlm --tokenizer {input.tokenizer}"
        " --sequences {input.sequences} --masking {input.masking} {params.options}"
        " {params.checkpoints} --threads $OMP_NUM_THREADS --output {output}"
        + STOP_IN_TIME
        + " > {log} 2>&1"
        + GO_ON_LATER


rule conditioned_teacher:
    input:
        model=lambda wildcards: layout.teacher(
            wildcards.corpus, teacher_of(wildcards)["teacher"]
        ),
        sequences=conditioning_data("sequences"),
        masking=conditioning_data("masking"),
        tried=tried_teacher,
    output:
        directory("results/corpora/{corpus}/{teacher}/full/model"),
    log:
        "logs/conditioned_teacher/{corpus}-{teacher}.log",
    wildcard_constraints:
        teacher=one_of(teachers_from("condition")),
    conda:
        "../../envs/eliquare.yaml"
    threads: cores(teacher_training)
    resources:
        gpu=processes(teacher_training),
        processes=processes(teacher_training),
        nodes=1,
        mem_mb=training_memory(teacher_training, ["model"]),
        runtime=training_minutes(teacher_training, ["model"]),
    params:
        version=version("eliquare.models.mlm"),
        launcher=lambda wildcards: launcher(teacher_of(wildcards)["training"]),
        options=lambda wildcards: commands.teacher(wildcards.teacher),
        checkpoints=checkpoints(teacher_training),
    shell:
        THREADS_OF_A_PROCESS
        + "{params.launcher} eliquare.models.mlm --model {input.model} --sequences {input.sequences}"
        " --masking {input.masking} {params.options}"
        " {params.checkpoints} --threads $OMP_NUM_THREADS --output {output}"
        + STOP_IN_TIME
        + " > {log} 2>&1"
        + GO_ON_LATER


rule initial_student:
    input:
        model_to_start_from,
    output:
        directory("results/students/{student}/{corpus}/initial"),
    log:
        "logs/initial_student/{student}-{corpus}.log",
    # Before distillations, so that those that share a teacher find all students of their group.
    priority: 1
    conda:
        "../../envs/eliquare.yaml"
    resources:
        **shares_of_teacher_pass(whole=False),
        mem_mb=memory(2000, 3, of="*"),
        runtime=minutes(30),
    params:
        version=version("eliquare.models.student"),
        options=lambda wildcards: commands.student(wildcards.student),
    shell:
        "python -m eliquare.models.student --teacher {input} {params.options}"
        " --output {output} > {log} 2>&1"
