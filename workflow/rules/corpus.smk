# From the host to sequences: dump, documents, sequences, counts, masking.


rule dump:
    input:
        generated_mirror,
    output:
        f"{DUMPS}/{{wiki}}-{{date}}-pages-articles.xml.bz2",
    log:
        "logs/dump/{wiki}-{date}.log",
    wildcard_constraints:
        wiki="[a-z0-9_]+",
        date="latest|[0-9]+",
    cache: SHARED
    localrule: True
    conda:
        "../../envs/eliquare.yaml"
    params:
        version=version("eliquare.corpus.dump"),
        # An output cache tells results apart by parameters and inputs, and not by wildcards.
        wiki=lambda wildcards: wildcards.wiki,
        date=lambda wildcards: wildcards.date,
        mirror=mirror_of,
    shell:
        "python -m eliquare.corpus.dump --wiki {params.wiki} --date {params.date}"
        " --mirror {params.mirror:q} --output {output} > {log} 2>&1"


rule articles:
    input:
        lambda wildcards: layout.dump(wildcards.corpus),
    output:
        directory("results/corpora/{corpus}/documents"),
    log:
        "logs/articles/{corpus}.log",
    wildcard_constraints:
        corpus=one_of(by_source("dump")),
    cache: SHARED
    conda:
        "../../envs/eliquare.yaml"
    threads: 8
    resources:
        mem_mb=memory(4000, 0.1, of="*"),
        runtime=minutes(30, 0.05, of="*"),
    params:
        version=version("eliquare.corpus.articles"),
        options=lambda wildcards: commands.filter(
            wildcards.corpus, "expand_templates", "max_documents"
        ),
    shell:
        "python -m eliquare.corpus.articles --dump {input} {params.options}"
        " --processes {threads} --output {output} > {log} 2>&1"


rule texts:
    input:
        lambda wildcards: corpus_of(wildcards)["files"],
    output:
        directory("results/corpora/{corpus}/documents"),
    log:
        "logs/texts/{corpus}.log",
    wildcard_constraints:
        corpus=one_of(by_source("text")),
    cache: SHARED
    conda:
        "../../envs/eliquare.yaml"
    threads: 8
    resources:
        mem_mb=memory(4000, 0.1, of="*"),
        runtime=minutes(30, 0.05, of="*"),
    params:
        version=version("eliquare.corpus.text"),
        files=lambda wildcards, input: options({"file": list(input)}),
        options=lambda wildcards: commands.filter(wildcards.corpus, "document"),
    shell:
        "python -m eliquare.corpus.text {params.files} {params.options}"
        " --processes {threads} --output {output} > {log} 2>&1"


rule dataset:
    output:
        directory("results/corpora/{corpus}/documents"),
    log:
        "logs/dataset/{corpus}.log",
    wildcard_constraints:
        corpus=one_of(by_source("dataset")),
    cache: SHARED
    localrule: True
    conda:
        "../../envs/eliquare.yaml"
    params:
        version=version("eliquare.corpus.dataset"),
        options=lambda wildcards: commands.filter(
            wildcards.corpus, "dataset", "configuration", "split", "column", "revision"
        ),
    shell:
        "python -m eliquare.corpus.dataset {params.options} --output {output} > {log} 2>&1"


rule mixture:
    input:
        lambda wildcards: [
            layout.documents(code) for code in config["mixtures"][wildcards.corpus]
        ],
    output:
        directory("results/corpora/{corpus}/documents"),
    log:
        "logs/mixture/{corpus}.log",
    wildcard_constraints:
        corpus=one_of(config["mixtures"]),
    cache: SHARED
    conda:
        "../../envs/eliquare.yaml"
    resources:
        mem_mb=memory(2000),
        runtime=minutes(30, 0.02, of="*"),
    params:
        version=version("eliquare.corpus.mixture"),
        documents=lambda wildcards, input: options({"documents": list(input)}),
    shell:
        "python -m eliquare.corpus.mixture {params.documents} --output {output} > {log} 2>&1"


rule sequences:
    input:
        documents="results/corpora/{corpus}/documents",
        tokenizer=tokenizer_of,
    output:
        directory(f"{PREPARED}/sequences"),
    log:
        "logs/sequences/{corpus}-{teacher}-{vocabulary}.log",
    wildcard_constraints:
        vocabulary=one_of([FULL, *config["vocabularies"]]),
    cache: SHARED
    conda:
        "../../envs/eliquare.yaml"
    threads: 8
    resources:
        mem_mb=memory(4000),
        runtime=minutes(30, 0.05, of=["documents"]),
    params:
        version=version("eliquare.corpus.sequences"),
        language=lambda wildcards: (
            f"--language {wildcards.corpus}"
            if wildcards.corpus in config["languages"]
            else ""
        ),
        max_length=config["sequences"]["max_length"],
        validation_share=config["sequences"]["validation_share"],
    shell:
        "python -m eliquare.corpus.sequences --documents {input.documents}"
        " --tokenizer {input.tokenizer} {params.language} --max-length {params.max_length}"
        " --validation-share {params.validation_share} --threads {threads}"
        " --output {output} > {log} 2>&1"


# The same text in the tokenizers of an amplified student and of its teacher.
rule paired_sequences:
    input:
        documents="results/corpora/{corpus}/documents",
        tokenizer=tokenizer_of,
        teacher=tokenizer_before,
    output:
        directory(f"{PREPARED}/sequences"),
    log:
        "logs/sequences/{corpus}-{teacher}-{vocabulary}.log",
    wildcard_constraints:
        vocabulary=one_of(config["amplifications"]),
    conda:
        "../../envs/eliquare.yaml"
    threads: 8
    resources:
        mem_mb=memory(4000),
        runtime=minutes(60, 0.5, of=["documents"]),
    params:
        version=version("eliquare.corpus.paired"),
        language=lambda wildcards: (
            f"--language {wildcards.corpus}"
            if wildcards.corpus in config["languages"]
            else ""
        ),
        max_length=config["sequences"]["max_length"],
        validation_share=config["sequences"]["validation_share"],
    shell:
        "python -m eliquare.corpus.paired --documents {input.documents}"
        " --tokenizer {input.tokenizer} --teacher-tokenizer {input.teacher} {params.language}"
        " --max-length {params.max_length} --validation-share {params.validation_share}"
        " --threads {threads} --output {output} > {log} 2>&1"


rule counts:
    input:
        sequences=f"{PREPARED}/sequences",
        tokenizer=tokenizer_of,
    output:
        directory(f"{PREPARED}/counts"),
    log:
        "logs/counts/{corpus}-{teacher}-{vocabulary}.log",
    cache: SHARED
    conda:
        "../../envs/eliquare.yaml"
    resources:
        mem_mb=memory(2000),
        runtime=minutes(30, 0.01, of=["sequences"]),
    params:
        version=version("eliquare.corpus.counts"),
    shell:
        "python -m eliquare.corpus.counts --sequences {input.sequences}"
        " --tokenizer {input.tokenizer} --output {output} > {log} 2>&1"


rule masking:
    input:
        sequences=f"{PREPARED}/sequences",
        counts=f"{PREPARED}/counts",
        tokenizer=tokenizer_of,
    output:
        directory(f"{PREPARED}/masking"),
    log:
        "logs/masking/{corpus}-{teacher}-{vocabulary}.log",
    conda:
        "../../envs/eliquare.yaml"
    resources:
        mem_mb=memory(2000),
        runtime=minutes(30, 0.01, of=["sequences"]),
    params:
        version=version("eliquare.masking"),
        options=commands.masking(),
    shell:
        "python -m eliquare.masking --sequences {input.sequences} --counts {input.counts}"
        " --tokenizer {input.tokenizer} {params.options} --output {output} > {log} 2>&1"
