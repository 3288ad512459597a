# Other forms of a student, for use elsewhere: ONNX and int8, static embeddings, fine-tuned models.


rule export:
    input:
        model=lambda wc: paths.model(wc.student, wc.language),
        text=lambda wc: paths.held_out(wc.language),
        counts=counts_of_student,
        scores=kept_models,
        tasks=lambda wc: paths.export_inputs(wc.student, wc.language),
    output:
        directory(f"<results>/{settings.name}/exports/{{student}}-{{language}}"),
    log:
        f"<logs>/export/{settings.name}-{{student}}-{{language}}.log",
    benchmark:
        f"<results>/costs/export/{settings.name}-{{student}}-{{language}}.tsv"
    conda:
        "../../envs/eliquare.yaml"
    # As `benchmark`: it measures latency, so nothing else runs beside it on one machine.
    threads: max(all_cores(), settings.benchmark.threads)
    resources:
        nodes=1,
        mem_mb=lambda wc, input, attempt: memory(attempt, 4000, 8, input.model),
        runtime=lambda wc, attempt: minutes(attempt, 60),
    params:
        version=version("export", "student"),
        options=lambda wc: options.export(settings, wc.student, wc.language),
        seeds=settings.experiment.seeds,
        store=str(paths.store),
    message:
        "Export {wildcards.student} for {wildcards.language}"
    shell:
        "python -m eliquare export student --model {input.model:q} --system {wildcards.student:q}"
        " --language {wildcards.language:q} --text {input.text:q} --counts {input.counts:q}"
        " {params.options:q} --seeds {params.seeds:q} --store {params.store:q} --output {output:q}"
        " > {log:q} 2>&1"
