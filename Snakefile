# `snakemake` at the top of a clone runs workflow/Snakefile.
include: "workflow/Snakefile"


# Snakemake takes its default target from the first file alone.
rule default:
    input:
        rules.all.input,
