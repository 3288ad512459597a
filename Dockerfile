# docker build -t eliquare .
# docker run --rm -v "$PWD":/work -w /work eliquare --cores 8 --configfile config/config.yaml
FROM python:3.11-slim-bookworm
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev git make \
        fonts-noto-core fonts-noto-cjk \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/eliquare
COPY envs/requirements.lock envs/requirements.lock
# Of torch, the build for this machine, which has no hash in the lock.
RUN grep --invert-match '^torch==' envs/requirements.lock > others.lock \
    && pip install --no-cache-dir --no-deps --requirement others.lock \
    && pip install --no-cache-dir "$(grep '^torch==' envs/requirements.lock)" && rm others.lock
COPY . .
RUN pip install --no-cache-dir --no-deps --no-build-isolation --editable .
ENTRYPOINT ["snakemake", "--snakefile", "/opt/eliquare/workflow/Snakefile"]
CMD ["--help"]
