# Fine-tuning every system on every task with every seed, and measuring it.


# One job of a bundle at a time: it asks for one GPU, and for the time of all.
resource_scopes:
    in_turn="local",


rule finetuned:
    input:
        model=lambda wildcards: layout.model(
            wildcards.system, task_of(wildcards)["language"]
        ),
        files=task_files,
    output:
        directory("results/finetuned/{task}/{system}/seed-{seed}"),
    log:
        "logs/finetuned/{task}-{system}-{seed}.log",
    group:
        evaluation
    conda:
        "../../envs/eliquare.yaml"
    threads: lambda wildcards: task_of(wildcards)["finetuning"]["threads"]
    resources:
        in_turn=1,
        gpu=1,
        nodes=1,
        mem_mb=memory(3000, 6, of=["model"]),
        runtime=finetuning_minutes,
    params:
        version=version("eliquare.tasks.finetune"),
        options=lambda wildcards: commands.finetuning(wildcards.task),
    shell:
        "OMP_NUM_THREADS={threads} python -m eliquare.tasks.finetune --model {input.model}"
        " --task {wildcards.task} --system {wildcards.system} --seed {wildcards.seed}"
        " {params.options} --output {output} > {log} 2>&1"


rule measured:
    input:
        lambda wildcards: layout.model(wildcards.system, wildcards.language),
    output:
        "results/measured/{language}/{system}.json",
    log:
        "logs/measured/{language}-{system}.log",
    group:
        evaluation
    conda:
        "../../envs/eliquare.yaml"
    threads: measuring_threads()
    resources:
        in_turn=1,
        gpu=1,
        nodes=1,
        mem_mb=memory(3000, 6, of="*"),
        runtime=minutes(60),
    params:
        version=version("eliquare.measure"),
        options=commands.measuring(),
    shell:
        "python -m eliquare.measure --model {input} --language {wildcards.language}"
        " --system {wildcards.system} {params.options} --output {output} > {log} 2>&1"
