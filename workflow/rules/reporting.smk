# What people read: tables, plots, released models, the report.

import json

EXPERIMENT = str(layout.experiment())


rule settings:
    output:
        f"{EXPERIMENT}/settings.json",
    log:
        f"logs/settings/{config['name']}.log",
    localrule: True
    params:
        text=json.dumps(config, sort_keys=True, ensure_ascii=False, indent=1),
    run:
        Path(output[0]).write_text(f"{params.text}\n", encoding="utf-8")


rule tables:
    input:
        published="resources/published.csv",
        settings=f"{EXPERIMENT}/settings.json",
        finetuned=[layout.finetuned(*run) for run in layout.runs()],
        measured=[layout.measured(*pair) for pair in layout.pairs()],
        vocabularies=[
            layout.vocabulary_report(*cut) for cut in layout.vocabulary_rules()
        ],
    output:
        directory(f"{EXPERIMENT}/tables"),
    log:
        f"logs/tables/{config['name']}.log",
    localrule: True
    conda:
        "../../envs/eliquare.yaml"
    params:
        version=version("eliquare.reporting.tables"),
    shell:
        "python -m eliquare.reporting.tables --settings {input.settings} --results results"
        " --output {output} > {log} 2>&1"


rule plots:
    input:
        settings=f"{EXPERIMENT}/settings.json",
        finetuned=[layout.finetuned(*run) for run in layout.runs()],
        measured=[layout.measured(*pair) for pair in layout.pairs()],
        models=[layout.model(system, language) for language, system in layout.pairs()],
    output:
        directory(f"{EXPERIMENT}/plots"),
    log:
        f"logs/plots/{config['name']}.log",
    localrule: True
    conda:
        "../../envs/eliquare.yaml"
    params:
        version=version("eliquare.reporting.plots"),
    shell:
        "python -m eliquare.reporting.plots --settings {input.settings} --results results"
        " --output {output} > {log} 2>&1"


rule released_model:
    input:
        template="workflow/report/card.md.j2",
        settings=f"{EXPERIMENT}/settings.json",
        model=lambda wildcards: layout.model(wildcards.student, wildcards.language),
        finetuned=lambda wildcards: [
            layout.finetuned(*run) for run in layout.runs([wildcards.language])
        ],
        measured=lambda wildcards: [
            layout.measured(*pair) for pair in layout.pairs([wildcards.language])
        ],
        documents=lambda wildcards: [
            layout.documents(code)
            for code in layout.learned_from(wildcards.student, wildcards.language)
        ],
    output:
        directory(f"{EXPERIMENT}/models/{{student}}-{{language}}"),
    log:
        f"logs/released_model/{config['name']}-{{student}}-{{language}}.log",
    localrule: True
    conda:
        "../../envs/eliquare.yaml"
    params:
        version=version("eliquare.reporting.release"),
    shell:
        "python -m eliquare.reporting.release --settings {input.settings} --results results"
        " --system {wildcards.student} --language {wildcards.language} --model {input.model}"
        " --output {output} > {log} 2>&1"


rule report:
    input:
        template="workflow/report/report.html.j2",
        style="workflow/report/style.css",
        settings=f"{EXPERIMENT}/settings.json",
        tables=f"{EXPERIMENT}/tables",
        plots=f"{EXPERIMENT}/plots",
        documents=[layout.documents(code) for code in config["experiment"]["languages"]],
        vocabularies=[
            layout.vocabulary_report(*cut) for cut in layout.vocabulary_rules()
        ],
        verifications=[layout.verification(*pair) for pair in layout.cut_afterwards()],
    output:
        f"{EXPERIMENT}/report.html",
    log:
        f"logs/report/{config['name']}.log",
    localrule: True
    conda:
        "../../envs/eliquare.yaml"
    params:
        version=version("eliquare.reporting.report"),
    shell:
        "python -m eliquare.reporting.report --settings {input.settings} --results results"
        " --tables {input.tables} --plots {input.plots} --output {output} > {log} 2>&1"
