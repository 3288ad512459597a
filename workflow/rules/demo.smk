# The invented languages of the demo: dumps, treebanks and tasks, as if they had been downloaded.

from eliquare.demo import world

if "world" in config:

    rule demo_world:
        output:
            [f"resources/demo/{file}" for file in world.files()],
        log:
            "logs/demo_world.log",
        localrule: True
        conda:
            "../../envs/eliquare.yaml"
        params:
            version=version("eliquare.demo.world"),
            options=options(config["world"]),
        shell:
            "python -m eliquare.demo.world {params.options} --output resources/demo > {log} 2>&1"
