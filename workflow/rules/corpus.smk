# From the host to masked sequences: dump, documents, sequences with their counts, masking.

if settings.demo:
    from demo_languages import world

    rule write_demo:
        output:
            [f"{DEMO}/{file}" for file in world.files()],
        log:
            "logs/write_demo.log",
        localrule: True
        conda:
            "../../envs/eliquare.yaml"
        params:
            version=world.VERSION,
            options=options.words(settings.demo),
        message:
            "Write the demo's invented languages"
        shell:
            "python -m demo_languages {params.options:q} --output resources/demo > {log:q} 2>&1"


rule download_dump:
    input:
        demo_mirror,
    output:
        f"{DUMPS}/{{wiki}}-{{date}}-{PAGES}",
    log:
        "logs/download_dump/{wiki}-{date}.log",
    wildcard_constraints:
        wiki="[a-z0-9_]+",
        date="latest|[0-9]+",
    cache: "hash-omit-software"
    localrule: True
    conda:
        "../../envs/eliquare.yaml"
    params:
        version=version("corpus", "dump"),
        # An output cache tells results apart by parameters and inputs, not by wildcards.
        wiki=lambda wc: wc.wiki,
        date=lambda wc: wc.date,
        # Depends on resources, so that another mirror downloads nothing again: the checksum decides.
        mirror=lambda wc, resources: mirror_of(wc),
    message:
        "Download the dump of {wildcards.wiki}"
    shell:
        "python -m eliquare corpus dump --wiki {params.wiki:q} --date {params.date:q}"
        " --mirror {params.mirror:q} --output {output:q} > {log:q} 2>&1"


rule extract_documents:
    input:
        lambda wc: paths.dump(wc.corpus),
    output:
        directory("<results>/corpora/{corpus}/documents"),
    log:
        "<logs>/extract_documents/{corpus}.log",
    wildcard_constraints:
        corpus=one_of(languages_from("dump")),
    cache: "hash-omit-software"
    conda:
        "../../envs/eliquare.yaml"
    threads: lambda wc, input: job_resources.cores(8, *input)
    resources:
        mem_mb=lambda wc, input, attempt: memory(attempt, 4000, 0.1, *input),
        runtime=lambda wc, input, attempt: minutes(attempt, 30, 0.05, *input),
    params:
        version=version("corpus", "documents"),
        options=filter_of,
        templates=lambda wc: options.words({"expand_templates": corpus_of(wc).expand_templates}),
    message:
        "Read the documents of the dump: {wildcards.corpus}"
    shell:
        "python -m eliquare corpus documents --dump {input:q} {params.templates:q} {params.options:q}"
        " --processes {threads:q} --output {output:q} > {log:q} 2>&1"


rule read_text:
    input:
        lookup("languages/{corpus}/corpus/files", within=completed),
    output:
        directory("<results>/corpora/{corpus}/documents"),
    log:
        "<logs>/read_text/{corpus}.log",
    wildcard_constraints:
        corpus=one_of(languages_from("text")),
    cache: "hash-omit-software"
    conda:
        "../../envs/eliquare.yaml"
    threads: lambda wc, input: job_resources.cores(8, *input)
    resources:
        mem_mb=lambda wc, input, attempt: memory(attempt, 4000, 0.1, *input),
        runtime=lambda wc, input, attempt: minutes(attempt, 30, 0.05, *input),
    params:
        version=version("corpus", "text"),
        document=lookup("languages/{corpus}/corpus/document", within=completed),
        options=filter_of,
    message:
        "Read the documents of the text files: {wildcards.corpus}"
    shell:
        "python -m eliquare corpus text --files {input:q} --document {params.document:q}"
        " {params.options:q} --processes {threads:q} --output {output:q} > {log:q} 2>&1"


rule read_dataset:
    output:
        directory("<results>/corpora/{corpus}/documents"),
    log:
        "<logs>/read_dataset/{corpus}.log",
    wildcard_constraints:
        corpus=one_of(languages_from("dataset")),
    cache: "hash-omit-software"
    localrule: True
    conda:
        "../../envs/eliquare.yaml"
    params:
        version=version("corpus", "dataset"),
        options=filter_of,
        dataset=lambda wc: options.words(
            corpus_of(wc).model_dump(
                include={"dataset", "configuration", "split", "column", "revision"}
            )
        ),
    message:
        "Read the documents of the dataset: {wildcards.corpus}"
    shell:
        "python -m eliquare corpus dataset {params.dataset:q} {params.options:q} --output {output:q}"
        " > {log:q} 2>&1"


rule mix:
    input:
        lambda wc: [paths.documents(code) for code in settings.members(wc.corpus)],
    output:
        directory("<results>/corpora/{corpus}/documents"),
    log:
        "<logs>/mix/{corpus}.log",
    benchmark:
        "<results>/costs/mix/{corpus}.tsv"
    wildcard_constraints:
        corpus=one_of(settings.mixtures),
    conda:
        "../../envs/eliquare.yaml"
    resources:
        mem_mb=lambda wc, attempt: memory(attempt, 2000),
        runtime=lambda wc, input, attempt: minutes(attempt, 30, 0.02, *input),
    params:
        version=version("corpus", "mixture"),
        sampling=sampling_of,
    message:
        "Mix the documents of several languages: {wildcards.corpus}"
    shell:
        "python -m eliquare corpus mixture --documents {input:q} {params.sampling:q}"
        " --output {output:q} > {log:q} 2>&1"


rule sample_held_out:
    input:
        "<results>/corpora/{corpus}/documents",
    output:
        text="<results>/corpora/{corpus}/held_out.txt",
        pairs="<results>/corpora/{corpus}/retrieval.tsv",
    log:
        "<logs>/sample_held_out/{corpus}.log",
    benchmark:
        "<results>/costs/sample_held_out/{corpus}.tsv"
    conda:
        "../../envs/eliquare.yaml"
    resources:
        mem_mb=lambda wc, attempt: memory(attempt, 2000),
        runtime=lambda wc, input, attempt: minutes(attempt, 30, 0.02, *input),
    params:
        version=version("corpus", "sample"),
        language=lambda wc: settings.language_of(wc.corpus),
        fraction=settings.sequences.validation_fraction,
    message:
        "Draw sentences and titles of the validation documents: {wildcards.corpus}"
    shell:
        "python -m eliquare corpus sample --documents {input:q} --language {params.language:q}"
        " --validation-fraction {params.fraction:q} --pairs {output.pairs:q} --output {output.text:q}"
        " > {log:q} 2>&1"


# The number stands in the name, so that experiments with other numbers are not in each other's way.
rule sample_unlabelled:
    input:
        "<results>/corpora/{corpus}/documents",
    output:
        "<results>/corpora/{corpus}/unlabelled-{number}.txt",
    log:
        "<logs>/sample_unlabelled/{corpus}-{number}.log",
    wildcard_constraints:
        number=r"\d+",
    conda:
        "../../envs/eliquare.yaml"
    resources:
        mem_mb=lambda wc, attempt: memory(attempt, 2000),
        runtime=lambda wc, input, attempt: minutes(attempt, 30, 0.02, *input),
    params:
        version=version("corpus", "sample"),
        language=lambda wc: settings.language_of(wc.corpus),
        fraction=settings.sequences.validation_fraction,
    message:
        "Draw {wildcards.number} sentences of the training documents: {wildcards.corpus}"
    shell:
        "python -m eliquare corpus sample --documents {input:q} --language {params.language:q}"
        " --part training --sentences {wildcards.number:q}"
        " --validation-fraction {params.fraction:q} --output {output:q} > {log:q} 2>&1"


rule tokenize:
    input:
        documents="<results>/corpora/{corpus}/documents",
        tokenizer=lambda wc: paths.tokenizer(wc.corpus, wc.teacher, wc.vocabulary),
    output:
        sequences=directory("<results>/corpora/{corpus}/{teacher}/{vocabulary}/sequences"),
        counts=directory("<results>/corpora/{corpus}/{teacher}/{vocabulary}/counts"),
    log:
        "<logs>/tokenize/{corpus}-{teacher}-{vocabulary}.log",
    benchmark:
        "<results>/costs/tokenize/{corpus}-{teacher}-{vocabulary}.tsv"
    wildcard_constraints:
        vocabulary=one_of([FULL], settings.vocabularies),
    priority: FIRST
    conda:
        "../../envs/eliquare.yaml"
    threads: lambda wc, input: job_resources.cores(8, *input)
    resources:
        mem_mb=lambda wc, attempt: memory(attempt, 4000),
        runtime=lambda wc, input, attempt: minutes(attempt, 30, 0.05, input.documents),
    params:
        version=version("corpus", "tokenize"),
        room="corpus",
        options=sequences_options,
        teacher=[],
    message:
        "Tokenize {wildcards.corpus} for {wildcards.teacher}, vocabulary {wildcards.vocabulary}"
    shell:
        "python -m eliquare {params.room:q} tokenize --documents {input.documents:q}"
        " --tokenizer {input.tokenizer:q} {params.teacher:q} {params.options:q} --threads {threads:q}"
        " --output {output.sequences:q} --counts {output.counts:q} > {log:q} 2>&1"


# An extended vocabulary: the same text with the student's tokenizer and with its teacher's.
use rule tokenize as tokenize_extended with:
    input:
        documents="<results>/corpora/{corpus}/documents",
        tokenizer=lambda wc: paths.tokenizer(wc.corpus, wc.teacher, wc.vocabulary),
        teacher=lambda wc: paths.tokenizer(
            wc.corpus, wc.teacher, paths.extended_from(wc.vocabulary)
        ),
    benchmark:
        "<results>/costs/tokenize_extended/{corpus}-{teacher}-{vocabulary}.tsv"
    wildcard_constraints:
        vocabulary=one_of(settings.extensions),
    resources:
        mem_mb=lambda wc, attempt: memory(attempt, 4000),
        runtime=lambda wc, input, attempt: minutes(attempt, 60, 0.5, input.documents),
    params:
        version=version("extension", "tokenize"),
        room="extension",
        teacher=lambda wc, input: ["--teacher-tokenizer", input.teacher],


rule fix_masks:
    input:
        sequences="<results>/corpora/{corpus}/{teacher}/{vocabulary}/sequences",
        counts="<results>/corpora/{corpus}/{teacher}/{vocabulary}/counts",
        tokenizer=lambda wc: paths.tokenizer(wc.corpus, wc.teacher, wc.vocabulary),
    output:
        directory("<results>/corpora/{corpus}/{teacher}/{vocabulary}/masking"),
    log:
        "<logs>/fix_masks/{corpus}-{teacher}-{vocabulary}.log",
    benchmark:
        "<results>/costs/fix_masks/{corpus}-{teacher}-{vocabulary}.tsv"
    wildcard_constraints:
        vocabulary=one_of([FULL], settings.vocabularies),
    priority: FIRST
    conda:
        "../../envs/eliquare.yaml"
    resources:
        mem_mb=lambda wc, attempt: memory(attempt, 2000),
        runtime=lambda wc, input, attempt: minutes(attempt, 30, 0.01, input.sequences),
    params:
        version=version("corpus", "mask"),
        room="corpus",
        options=options.words(settings.masking),
    message:
        "Fix the masks of {wildcards.corpus} for {wildcards.teacher}, {wildcards.vocabulary}"
    shell:
        "python -m eliquare {params.room:q} mask --sequences {input.sequences:q}"
        " --counts {input.counts:q} --tokenizer {input.tokenizer:q} {params.options:q}"
        " --output {output:q} > {log:q} 2>&1"


use rule fix_masks as fix_masks_extended with:
    benchmark:
        "<results>/costs/fix_masks_extended/{corpus}-{teacher}-{vocabulary}.tsv"
    wildcard_constraints:
        vocabulary=one_of(settings.extensions),
    params:
        version=version("extension", "mask"),
        room="extension",
