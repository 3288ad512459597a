# The tokens that stay or are new for a language, and the reports of what that changed.


rule select_vocabulary:
    input:
        tokenizer=lambda wc: paths.tokenizer(wc.corpus, wc.teacher, FULL),
        counts=lambda wc: [
            paths.prepared(corpus, wc.teacher, FULL) / "counts"
            for corpus in corpora_of_vocabulary(wc)
        ],
        documents=lambda wc: map(paths.documents, corpora_of_vocabulary(wc)),
        files=lambda wc: filter(
            None,
            [
                settings.vocabularies[wc.vocabulary].tokens,
                settings.vocabularies[wc.vocabulary].always_keep,
            ],
        ),
    output:
        "<results>/corpora/{corpus}/{teacher}/{vocabulary}/vocabulary.csv",
    log:
        "<logs>/select_vocabulary/{corpus}-{teacher}-{vocabulary}.log",
    benchmark:
        "<results>/costs/select_vocabulary/{corpus}-{teacher}-{vocabulary}.tsv"
    wildcard_constraints:
        vocabulary=one_of(settings.vocabularies),
    priority: FIRST
    conda:
        "../../envs/eliquare.yaml"
    resources:
        mem_mb=lambda wc, attempt: memory(attempt, 2000),
        runtime=lambda wc, attempt: minutes(attempt, 30),
    params:
        version=version("vocabulary", "select"),
        characters=lambda wc, input: [f"{folder}/characters.json" for folder in input.documents],
        options=lambda wc: options.words(settings.vocabularies[wc.vocabulary], SelectionRule),
    message:
        "Select the tokens of {wildcards.teacher} for {wildcards.corpus}: {wildcards.vocabulary}"
    shell:
        "python -m eliquare vocabulary select --model {input.tokenizer:q} --counts {input.counts:q}"
        " --characters {params.characters:q} {params.options:q} --output {output:q} > {log:q} 2>&1"


rule reduce_teacher:
    input:
        model=lambda wc: paths.teacher(wc.corpus, wc.teacher),
        vocabulary=lambda wc: paths.vocabulary_file(wc.corpus, wc.teacher, wc.vocabulary),
        documents="<results>/corpora/{corpus}/documents",
    output:
        directory("<results>/corpora/{corpus}/{teacher}/{vocabulary}/model"),
    log:
        "<logs>/reduce_teacher/{corpus}-{teacher}-{vocabulary}.log",
    benchmark:
        "<results>/costs/reduce_teacher/{corpus}-{teacher}-{vocabulary}.tsv"
    wildcard_constraints:
        vocabulary=one_of(settings.vocabularies),
    priority: FIRST
    conda:
        "../../envs/eliquare.yaml"
    resources:
        mem_mb=lambda wc, input, attempt: memory(attempt, 2000, 3, input.model),
        runtime=lambda wc, attempt: minutes(attempt, 30),
    params:
        version=version("vocabulary", "reduce"),
    message:
        "Reduce {wildcards.teacher} to {wildcards.corpus}: {wildcards.vocabulary}"
    shell:
        "python -m eliquare vocabulary reduce --model {input.model:q}"
        " --vocabulary {input.vocabulary:q} --sample {input.documents:q} --output {output:q}"
        " > {log:q} 2>&1"


rule extend_teacher:
    input:
        model=lambda wc: paths.teacher(wc.corpus, wc.teacher, paths.extended_from(wc.vocabulary)),
        documents="<results>/corpora/{corpus}/documents",
        vectors=lambda wc: settings.extensions[wc.vocabulary].vectors or [],
    output:
        directory("<results>/corpora/{corpus}/{teacher}/{vocabulary}/model"),
    log:
        "<logs>/extend_teacher/{corpus}-{teacher}-{vocabulary}.log",
    benchmark:
        "<results>/costs/extend_teacher/{corpus}-{teacher}-{vocabulary}.tsv"
    wildcard_constraints:
        vocabulary=one_of(settings.extensions),
    conda:
        "../../envs/eliquare.yaml"
    resources:
        mem_mb=lambda wc, input, attempt: memory(attempt, 4000, 4, input.model),
        runtime=lambda wc, input, attempt: minutes(attempt, 30, 0.2, input.documents),
    params:
        version=version("extension", "extend"),
        options=lambda wc: options.words(settings.extensions[wc.vocabulary], ExtensionRule),
    message:
        "Extend {wildcards.teacher} with tokens of {wildcards.corpus}: {wildcards.vocabulary}"
    shell:
        "python -m eliquare extension extend --model {input.model:q} --documents {input.documents:q}"
        " {params.options:q} --output {output:q} > {log:q} 2>&1"


rule vocabulary_report:
    input:
        teacher=lambda wc: paths.teacher(wc.corpus, wc.teacher),
        reduced="<results>/corpora/{corpus}/{teacher}/{vocabulary}/model",
        vocabulary=lambda wc: paths.vocabulary_file(wc.corpus, wc.teacher, wc.vocabulary),
        counts=lambda wc: paths.prepared(wc.corpus, wc.teacher, FULL) / "counts",
        documents="<results>/corpora/{corpus}/documents",
        tasks=lambda wc: training_texts(wc.corpus),
    output:
        "<results>/corpora/{corpus}/{teacher}/{vocabulary}/vocabulary.json",
    log:
        "<logs>/vocabulary_report/{corpus}-{teacher}-{vocabulary}.log",
    benchmark:
        "<results>/costs/vocabulary_report/{corpus}-{teacher}-{vocabulary}.tsv"
    wildcard_constraints:
        vocabulary=one_of(settings.vocabularies),
    conda:
        "../../envs/eliquare.yaml"
    resources:
        mem_mb=lambda wc, input, attempt: memory(attempt, 2000, 3, input.teacher, input.reduced),
        runtime=lambda wc, input, attempt: minutes(attempt, 30, 0.02, input.documents),
    params:
        version=version("vocabulary", "report"),
        tasks=lambda wc: named_texts(wc.corpus),
    message:
        "Report the reduced vocabulary: {wildcards.corpus}, {wildcards.teacher}"
    shell:
        "python -m eliquare vocabulary report --model {input.teacher:q} --reduced {input.reduced:q}"
        " --vocabulary {input.vocabulary:q} --counts {input.counts:q} --documents {input.documents:q}"
        " {params.tasks:q} --output {output:q} > {log:q} 2>&1"


rule extension_report:
    input:
        teacher=lambda wc: paths.teacher(wc.corpus, wc.teacher),
        extended="<results>/corpora/{corpus}/{teacher}/{vocabulary}/model",
        documents="<results>/corpora/{corpus}/documents",
        tasks=lambda wc: training_texts(wc.corpus),
    output:
        "<results>/corpora/{corpus}/{teacher}/{vocabulary}/vocabulary.json",
    log:
        "<logs>/extension_report/{corpus}-{teacher}-{vocabulary}.log",
    benchmark:
        "<results>/costs/extension_report/{corpus}-{teacher}-{vocabulary}.tsv"
    wildcard_constraints:
        vocabulary=one_of(settings.extensions),
    conda:
        "../../envs/eliquare.yaml"
    resources:
        mem_mb=lambda wc, input, attempt: memory(attempt, 2000, 1, input.extended),
        runtime=lambda wc, attempt: minutes(attempt, 30),
    params:
        version=version("extension", "report"),
        tasks=lambda wc: named_texts(wc.corpus),
    message:
        "Report the extended vocabulary: {wildcards.corpus}, {wildcards.teacher}"
    shell:
        "python -m eliquare extension report --model {input.teacher:q} --extended {input.extended:q}"
        " --documents {input.documents:q} {params.tasks:q} --output {output:q} > {log:q} 2>&1"
