# Which sub-words stay for a language, and the report of what cutting did.


rule kept:
    input:
        teacher=lambda wildcards: layout.tokenizer(
            wildcards.corpus, wildcards.teacher, FULL
        ),
        counts=lambda wildcards: [
            layout.prepared(corpus, wildcards.teacher, FULL) / "counts"
            for corpus in corpora_together(wildcards)
        ],
        documents=lambda wildcards: [
            layout.documents(corpus) for corpus in corpora_together(wildcards)
        ],
        lists=lambda wildcards: [
            rule_of(wildcards)[key]
            for key in ("list", "always_keep")
            if key in rule_of(wildcards)
        ],
    output:
        "results/corpora/{corpus}/{teacher}/{vocabulary}/kept.csv",
    log:
        "logs/kept/{corpus}-{teacher}-{vocabulary}.log",
    wildcard_constraints:
        vocabulary=one_of(config["vocabularies"]),
    conda:
        "../../envs/eliquare.yaml"
    resources:
        mem_mb=memory(2000),
        runtime=minutes(30),
    params:
        version=version("eliquare.vocabulary.select"),
        corpora=lambda wildcards, input: options(
            {
                "counts": list(input.counts),
                "characters": [
                    f"{folder}/characters.json" for folder in input.documents
                ],
            }
        ),
        options=lambda wildcards: commands.vocabulary(wildcards.vocabulary),
    shell:
        "python -m eliquare.vocabulary.select --model {input.teacher} {params.corpora}"
        " {params.options} --output {output} > {log} 2>&1"


rule reduced_teacher:
    input:
        model=lambda wildcards: layout.teacher(wildcards.corpus, wildcards.teacher),
        kept=lambda wildcards: layout.prepared(
            wildcards.corpus, wildcards.teacher, wildcards.vocabulary
        )
        / "kept.csv",
        documents="results/corpora/{corpus}/documents",
    output:
        directory("results/corpora/{corpus}/{teacher}/{vocabulary}/model"),
    log:
        "logs/reduced_teacher/{corpus}-{teacher}-{vocabulary}.log",
    wildcard_constraints:
        vocabulary=one_of(config["vocabularies"]),
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


rule amplified_teacher:
    input:
        model=lambda wildcards: layout.teacher(
            wildcards.corpus,
            wildcards.teacher,
            layout.amplified_from(wildcards.vocabulary),
        ),
        documents="results/corpora/{corpus}/documents",
        vectors=lambda wildcards: (
            config["amplifications"][wildcards.vocabulary]["vectors"] or []
        ),
    output:
        directory("results/corpora/{corpus}/{teacher}/{vocabulary}/model"),
    log:
        "logs/amplified_teacher/{corpus}-{teacher}-{vocabulary}.log",
    wildcard_constraints:
        vocabulary=one_of(config["amplifications"]),
    conda:
        "../../envs/eliquare.yaml"
    resources:
        mem_mb=memory(4000, 4, of=["model"]),
        runtime=minutes(30, 0.2, of=["documents"]),
    params:
        version=version("eliquare.vocabulary.amplify"),
        options=lambda wildcards: commands.amplification(wildcards.vocabulary),
    shell:
        "python -m eliquare.vocabulary.amplify --model {input.model} --documents {input.documents}"
        " {params.options} --output {output} > {log} 2>&1"


rule amplified_report:
    input:
        teacher=lambda wildcards: layout.teacher(wildcards.corpus, wildcards.teacher),
        amplified="results/corpora/{corpus}/{teacher}/{vocabulary}/model",
        documents="results/corpora/{corpus}/documents",
        tasks=lambda wildcards: texts_of_tasks(wildcards.corpus).values(),
    output:
        "results/corpora/{corpus}/{teacher}/{vocabulary}/vocabulary.json",
    log:
        "logs/amplified_report/{corpus}-{teacher}-{vocabulary}.log",
    wildcard_constraints:
        vocabulary=one_of(config["amplifications"]),
    conda:
        "../../envs/eliquare.yaml"
    resources:
        mem_mb=memory(2000),
        runtime=minutes(30),
    params:
        version=version("eliquare.vocabulary.amplified_report"),
        tasks=lambda wildcards: options_of_tasks(wildcards.corpus),
    shell:
        "python -m eliquare.vocabulary.amplified_report --model {input.teacher}"
        " --amplified {input.amplified} --documents {input.documents} {params.tasks}"
        " --output {output} > {log} 2>&1"


rule vocabulary_report:
    input:
        teacher=lambda wildcards: layout.teacher(wildcards.corpus, wildcards.teacher),
        reduced="results/corpora/{corpus}/{teacher}/{vocabulary}/model",
        kept=lambda wildcards: layout.prepared(
            wildcards.corpus, wildcards.teacher, wildcards.vocabulary
        )
        / "kept.csv",
        counts=full_counts,
        documents="results/corpora/{corpus}/documents",
        tasks=lambda wildcards: texts_of_tasks(wildcards.corpus).values(),
    output:
        "results/corpora/{corpus}/{teacher}/{vocabulary}/vocabulary.json",
    log:
        "logs/vocabulary_report/{corpus}-{teacher}-{vocabulary}.log",
    wildcard_constraints:
        vocabulary=one_of(config["vocabularies"]),
    conda:
        "../../envs/eliquare.yaml"
    resources:
        mem_mb=memory(2000, 3, of=["teacher", "reduced"]),
        runtime=minutes(30, 0.02, of=["documents"]),
    params:
        version=version("eliquare.vocabulary.report"),
        tasks=lambda wildcards: options_of_tasks(wildcards.corpus),
    shell:
        "python -m eliquare.vocabulary.report --model {input.teacher} --reduced {input.reduced}"
        " --kept {input.kept} --counts {input.counts} --documents {input.documents}"
        " {params.tasks} --output {output} > {log} 2>&1"
