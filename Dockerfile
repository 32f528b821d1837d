FROM python:3.12-slim

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PYTHONUNBUFFERED=1 \
    TF_CPP_MIN_LOG_LEVEL=2

# Fonts for Chinese, Japanese and Korean labels in plots.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends fonts-noto-cjk \
    && rm -rf /var/lib/apt/lists/*

# The requirements come before the code, so that a change of the code does not rebuild this layer, the largest one.
COPY requirements/latest.txt /tmp/requirements.txt
RUN pip install --require-hashes -r /tmp/requirements.txt

COPY setup.py pyproject.toml README.md LICENSE /src/
COPY tfseq2seq /src/tfseq2seq
RUN pip install --no-deps --no-build-isolation /src \
    && rm -rf /src/build /src/*.egg-info

RUN useradd --create-home --uid 1000 tfseq2seq
USER tfseq2seq
WORKDIR /home/tfseq2seq

ENTRYPOINT ["tfseq2seq"]
CMD ["--help"]
