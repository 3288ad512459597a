# The data of the tasks; each system on all tasks of a language with all seeds, in one program; its
# size and speed; its scores without labels.


# At the start, so that what cannot be fetched is known before GPUs work.
rule fetch_task:
    output:
        directory(f"{FETCHED}/{{task}}"),
    log:
        "logs/fetch_task/{task}.log",
    wildcard_constraints:
        task=one_of(tasks_to_fetch(optional=False)),
    cache: "hash-omit-software"
    priority: FIRST + 1
    localrule: True
    conda:
        "../../envs/eliquare.yaml"
    params:
        version=version("evaluation", "fetch"),
        source=lambda wc: options.task_source(paths.fetched_tasks()[wc.task]),
        # Depends on resources, so that no other value fetches again: experiments share the data.
        options=lambda wc, resources: [],
    message:
        "Fetch the task data {wildcards.task}"
    shell:
        "python -m eliquare evaluation fetch {params.source:q} {params.options:q} --output {output:q}"
        " > {log:q} 2>&1"


# Where nothing is at the source, its folder says so, which no cache shall keep.
use rule fetch_task as fetch_optional_task with:
    log:
        "logs/fetch_optional_task/{task}.log",
    wildcard_constraints:
        task=one_of(tasks_to_fetch(optional=True)),
    cache: False
    params:
        options=lambda wc, resources: ["--allow-unavailable"],


rule finetune:
    input:
        model=lambda wc: paths.model(wc.system, wc.language),
        files=lambda wc: task_files(wc.language),
        teacher=teacher_of_tasks,
        unlabelled=lambda wc: paths.unlabelled(wc.system, wc.language) or [],
    output:
        f"<results>/{settings.name}/scores/{{language}}/{{system}}.json",
    log:
        "<logs>/finetune/{language}-{system}.log",
    benchmark:
        f"<results>/costs/finetune/{settings.name}-{{language}}-{{system}}.tsv"
    conda:
        "../../envs/eliquare.yaml"
    resources:
        gpu=1,
        nodes=1,
        mem_mb=lambda wc, input, attempt: memory(attempt, 3000, 6, input.model),
        runtime=finetuning_minutes,
    params:
        version=version("evaluation", "finetune"),
        tasks=lambda wc: options.tasks(settings, wc.language, wc.system),
        seeds=settings.experiment.seeds,
        store=str(paths.store),
    message:
        "Fine-tune {wildcards.system} on the tasks in {wildcards.language}"
    # A result there with the same settings and inputs is taken over: a new seed or task costs itself.
    shell:
        "OMP_NUM_THREADS=1 python -m eliquare evaluation finetune --model {input.model:q}"
        " --system {wildcards.system:q} --language {wildcards.language:q} {params.tasks:q}"
        " --seeds {params.seeds:q} --store {params.store:q} --threads 1 --output {output:q}"
        " > {log:q} 2>&1"


rule benchmark:
    input:
        lambda wc: paths.model(wc.system, wc.language),
    output:
        "<results>/benchmarks/{language}/{system}.json",
    log:
        "<logs>/benchmark/{language}-{system}.log",
    benchmark:
        "<results>/costs/benchmark/{language}-{system}.tsv"
    conda:
        "../../envs/eliquare.yaml"
    # On one machine all cores, so that nothing else runs beside it.
    threads: max(all_cores(), settings.benchmark.threads)
    resources:
        gpu=1,
        nodes=1,
        mem_mb=lambda wc, input, attempt: memory(attempt, 3000, 6, *input),
        runtime=lambda wc, attempt: minutes(attempt, 60),
    params:
        version=version("evaluation", "benchmark"),
        options=options.words(settings.benchmark),
    message:
        "Measure size and speed of {wildcards.system} for {wildcards.language}"
    shell:
        "python -m eliquare evaluation benchmark --model {input:q} --language {wildcards.language:q}"
        " --system {wildcards.system:q} {params.options:q} --output {output:q} > {log:q} 2>&1"


rule evaluate_intrinsic:
    input:
        model=lambda wc: paths.model(wc.system, wc.language),
        text=lambda wc: paths.held_out(wc.language),
        retrieval=lambda wc: paths.retrieval(wc.language),
        tasks=lambda wc: paths.intrinsic_inputs([wc.language]),
    output:
        f"<results>/{settings.name}/intrinsic/{{language}}/{{system}}.json",
    log:
        "<logs>/evaluate_intrinsic/{language}-{system}.log",
    benchmark:
        f"<results>/costs/evaluate_intrinsic/{settings.name}-{{language}}-{{system}}.tsv"
    conda:
        "../../envs/eliquare.yaml"
    threads: 2
    resources:
        gpu=1,
        nodes=1,
        mem_mb=lambda wc, input, attempt: memory(attempt, 4000, 6, input.model),
        runtime=lambda wc, input, attempt: minutes(attempt, 60, 30, *input.tasks),
    params:
        version=version("evaluation", "intrinsic"),
        tasks=lambda wc: options.intrinsic(settings, wc.language),
    message:
        "Score {wildcards.system} without labels in {wildcards.language}"
    shell:
        "python -m eliquare evaluation intrinsic --model {input.model:q} --text {input.text:q}"
        " --retrieval {input.retrieval:q} --system {wildcards.system:q} --language {wildcards.language:q}"
        " {params.tasks:q} --output {output:q} > {log:q} 2>&1"
