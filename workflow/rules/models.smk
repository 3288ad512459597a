# Teachers and other systems.


rule fetch_teacher:
    input:
        lambda wc: local_files(settings.teachers[wc.teacher].model),
    output:
        directory("<results>/teachers/{teacher}/model"),
    log:
        "<logs>/fetch_teacher/{teacher}.log",
    wildcard_constraints:
        teacher=one_of(teachers_from("hub", "folder")),
    cache: "hash-omit-software"
    localrule: True
    conda:
        "../../envs/eliquare.yaml"
    params:
        version=version("models", "fetch"),
        source=teacher_source,
    message:
        "Fetch {wildcards.teacher}"
    shell:
        "python -m eliquare models fetch {params.source:q} --output {output:q} > {log:q} 2>&1"


use rule fetch_teacher as fetch_system with:
    input:
        lambda wc: local_files(settings.systems[wc.system].model),
    output:
        directory("<results>/systems/{system}/model"),
    log:
        "<logs>/fetch_system/{system}.log",
    wildcard_constraints:
        system=one_of(settings.systems),
    cache: False
    params:
        source=lambda wc: [
            *source_of(settings.systems[wc.system]),
            "--any-model",
            "--allow-unavailable",
        ],
    message:
        "Fetch {wildcards.system}"


rule train_tokenizer:
    input:
        lambda wc: paths.documents(settings.teachers[wc.teacher].corpus),
    output:
        directory("<results>/teachers/{teacher}/tokenizer"),
    log:
        "<logs>/train_tokenizer/{teacher}.log",
    benchmark:
        "<results>/costs/train_tokenizer/{teacher}.tsv"
    wildcard_constraints:
        teacher=one_of(teachers_from("pretrain")),
    conda:
        "../../envs/eliquare.yaml"
    threads: 2
    resources:
        mem_mb=lambda wc, input, attempt: memory(attempt, 4000, 4, *input),
        runtime=lambda wc, input, attempt: minutes(attempt, 60, 0.1, *input),
    params:
        version=version("models", "tokenizer"),
        kind=lookup("teachers/{teacher}/tokenizer", within=completed),
        vocab_size=lookup("teachers/{teacher}/vocab_size", within=completed),
    message:
        "Train the tokenizer of {wildcards.teacher}"
    shell:
        "python -m eliquare models tokenizer --documents {input:q} --tokenizer {params.kind:q}"
        " --vocab-size {params.vocab_size:q} --output {output:q} > {log:q} 2>&1"


rule pretrain_teacher:
    input:
        tokenizer="<results>/teachers/{teacher}/tokenizer",
        sequences=lambda wc: pretraining_data(wc, "sequences"),
        masking=lambda wc: pretraining_data(wc, "masking"),
    output:
        directory("<results>/teachers/{teacher}/model"),
    log:
        "<logs>/pretrain_teacher/{teacher}.log",
    benchmark:
        "<results>/costs/pretrain_teacher/{teacher}.tsv"
    wildcard_constraints:
        teacher=one_of(teachers_from("pretrain")),
    priority: FIRST
    conda:
        "../../envs/eliquare.yaml"
    threads: lambda wc: teacher_training(wc).threads * teacher_training(wc).gpus
    resources:
        gpu=lambda wc: teacher_training(wc).gpus,
        nodes=1,
        mem_mb=lambda wc, attempt: training_memory(attempt, teacher_training(wc)),
        runtime=lambda wc, input, attempt: training_minutes(
            attempt, teacher_training(wc), input.sequences, [new_parameters(wc)]
        ),
    params:
        version=version("models", "pretrain"),
        start=lambda wc, input: ["--tokenizer", input.tokenizer],
        options=lambda wc: options.pretraining(settings.teachers[wc.teacher]),
        launcher=lambda wc: options.launcher(teacher_training(wc)),
        threads=lambda wc, resources: teacher_training(wc).threads,
        execution=lambda wc, resources: execution(teacher_training(wc), resources),
        requeue=requeue,
    message:
        "Pre-train {wildcards.teacher}"
    shell:
        "OMP_NUM_THREADS={params.threads:q} {params.launcher:q} models pretrain {params.start:q}"
        " --sequences {input.sequences:q} --masking {input.masking:q} {params.options:q}"
        " {params.execution:q} --output {output:q} > {log:q} 2>&1 {params.requeue}"


use rule pretrain_teacher as adapt_teacher with:
    input:
        model=lambda wc: paths.start_of(wc.corpus, wc.teacher),
        sequences=lambda wc: paths.prepared(wc.corpus, wc.teacher, FULL) / "sequences",
        masking=lambda wc: paths.prepared(wc.corpus, wc.teacher, FULL) / "masking",
    output:
        directory("<results>/corpora/{corpus}/{teacher}/full/model"),
    log:
        "<logs>/adapt_teacher/{corpus}-{teacher}.log",
    benchmark:
        "<results>/costs/adapt_teacher/{corpus}-{teacher}.tsv"
    wildcard_constraints:
        teacher=one_of(teachers_from("adapt")),
    resources:
        gpu=lambda wc: teacher_training(wc).gpus,
        nodes=1,
        mem_mb=lambda wc, input, attempt: training_memory(
            attempt, teacher_training(wc), input.model
        ),
        runtime=lambda wc, input, attempt: training_minutes(
            attempt,
            teacher_training(wc),
            input.sequences,
            [stored_parameters(input.model)],
        ),
    params:
        start=lambda wc, input: ["--model", input.model],
    message:
        "Adapt {wildcards.teacher} to {wildcards.corpus}"
