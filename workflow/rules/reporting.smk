# What people read: tables, figures, released models, the report.


rule freeze_config:
    output:
        paths.settings_file,
    log:
        f"<logs>/freeze_config/{settings.name}.log",
    localrule: True
    params:
        text=json.dumps(completed, sort_keys=True, ensure_ascii=False, indent=1),
    message:
        "Write down the completed settings"
    run:
        with atomic_write(output[0]) as partial:
            partial.write_text(f"{params.text}\n", encoding="utf-8")


rule tables:
    input:
        settings=paths.settings_file,
        scores=[paths.scores(*pair) for pair in paths.evaluations()],
        benchmarks=[paths.benchmark(*pair) for pair in paths.benchmarked()],
        intrinsic=[paths.intrinsic(*pair) for pair in paths.pairs()],
        vocabularies=[paths.vocabulary_report(*each) for each in paths.vocabularies()],
        documents=[paths.documents(code) for code in settings.experiment.languages],
        # Their tokenizers.
        models=[paths.model(system, language) for language, system in paths.pairs()],
    output:
        report(
            directory(f"<results>/{settings.name}/tables"),
            patterns=["{table}.csv"],
            caption="../report/tables.rst",
            category="Tables",
            labels={"table": "{table}"},
        ),
    log:
        f"<logs>/tables/{settings.name}.log",
    localrule: True
    conda:
        "../../envs/eliquare.yaml"
    params:
        version=version("reporting", "tables"),
    message:
        "Write the tables"
    shell:
        "python -m eliquare reporting tables --settings {input.settings:q}"
        " --results results --output {output:q} > {log:q} 2>&1"


rule figures:
    input:
        settings=paths.settings_file,
        scores=[paths.scores(*pair) for pair in paths.evaluations()],
        benchmarks=[paths.benchmark(*pair) for pair in paths.benchmarked()],
        intrinsic=[paths.intrinsic(*pair) for pair in paths.pairs()],
        vocabularies=[paths.vocabulary_report(*each) for each in paths.vocabularies()],
        models=[paths.model(system, language) for language, system in paths.pairs()],
    output:
        report(
            directory(f"<results>/{settings.name}/figures"),
            patterns=["{figure}.png"],
            caption="../report/figures.rst",
            category="Figures",
            labels={"figure": "{figure}"},
        ),
    log:
        f"<logs>/figures/{settings.name}.log",
    localrule: True
    conda:
        "../../envs/eliquare.yaml"
    params:
        version=version("reporting", "figures"),
    message:
        "Draw the figures"
    shell:
        "python -m eliquare reporting figures --settings {input.settings:q}"
        " --results results --output {output:q} > {log:q} 2>&1"


rule release:
    input:
        settings=paths.settings_file,
        model=lambda wc: paths.model(wc.student, wc.language),
        terms=lambda wc: paths.first_model(wc.student),
        scores=lambda wc: [paths.scores(*pair) for pair in paths.evaluations([wc.language])],
        benchmarks=lambda wc: [paths.benchmark(*pair) for pair in paths.benchmarked([wc.language])],
        intrinsic=lambda wc: [paths.intrinsic(*pair) for pair in paths.pairs([wc.language])],
        documents=lambda wc: map(paths.documents, paths.training_languages(wc.student, wc.language)),
        text=lambda wc: paths.held_out(wc.language),
        exports=exports_of,
    output:
        directory(f"<results>/{settings.name}/models/{{student}}-{{language}}"),
    log:
        f"<logs>/release/{settings.name}-{{student}}-{{language}}.log",
    localrule: True
    conda:
        "../../envs/eliquare.yaml"
    params:
        version=version("reporting", "release"),
        exports=lambda wc, input: options.words({"exports": input.exports or None}),
    message:
        "Put together the model {wildcards.student} for {wildcards.language}"
    shell:
        "python -m eliquare reporting release --settings {input.settings:q}"
        " --results results --system {wildcards.student:q}"
        " --language {wildcards.language:q} --model {input.model:q} {params.exports:q}"
        " --output {output:q} > {log:q} 2>&1"


rule report:
    input:
        settings=paths.settings_file,
        tables=f"<results>/{settings.name}/tables",
        figures=f"<results>/{settings.name}/figures",
        documents=[paths.documents(code) for code in settings.experiment.languages],
        vocabularies=[paths.vocabulary_report(*each) for each in paths.vocabularies()],
        verifications=[paths.verification(*pair) for pair in paths.reductions()],
        exports=[paths.exports(*pair) for pair in paths.released() if paths.export(pair[0])],
        # For the sentences on which teacher and student disagree.
        tasks=paths.task_inputs(settings.experiment.languages),
    output:
        report(
            f"<results>/{settings.name}/report.html",
            caption="../report/report.rst",
            category="Report",
        ),
    log:
        f"<logs>/report/{settings.name}.log",
    localrule: True
    conda:
        "../../envs/eliquare.yaml"
    params:
        version=version("reporting", "report"),
    message:
        "Write the report"
    shell:
        "python -m eliquare reporting report --settings {input.settings:q}"
        " --results results --tables {input.tables:q} --figures {input.figures:q}"
        " --output {output:q} > {log:q} 2>&1"
