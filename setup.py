"""Packaging of tfseq2seq. Tool settings are in pyproject.toml, locked versions in requirements/."""

from pathlib import Path

from setuptools import find_packages, setup

README = Path(__file__).parent / "README.md"

INSTALL_REQUIRES = [
    "tensorflow>=2.17,<2.22",
    "keras>=3.15,<3.16",
    "tensorflow-text>=2.17,<2.22",
    "sentencepiece",
    "sacrebleu",
    "jiwer",
    "rouge-score",
    "PyYAML",
    "click",
    "rich",
    "numpy",
    "tensorboard",
]

EXTRAS_REQUIRE = {
    "plot": ["matplotlib"],
    "audio": ["soundfile"],
    # Pictures for exported models without TensorFlow, which decodes them itself.
    "image": ["pillow"],
    "ctranslate2": ["ctranslate2"],
    # backports-strenum 1.3 refuses the Pythons that this package and ai-edge-litert run on.
    "tflite": ["ai-edge-litert", "backports-strenum<1.3"],
    "serve": ["starlette", "uvicorn", "prometheus-client"],
    # The messages and the gRPC stub of TensorFlow Serving.
    "client": ["tensorflow-serving-api", "grpcio"],
    # Pretrained backbones, and the weights of Hugging Face folders.
    "hub": ["keras-hub>=0.31", "safetensors"],
    # Models of Hugging Face folders as runs.
    "import": ["safetensors"],
    # Settings of recipes chosen by trials.
    "sweep": ["optuna"],
}
EXTRAS_REQUIRE["all"] = sorted({need for extra in EXTRAS_REQUIRE.values() for need in extra})
# Not part of "all": tensorflow-io's kernels fit TensorFlow 2.17 alone, so this extra turns the whole stack back to
# 2.17. tensorflow-text 2.17 has wheels for Python 3.11 alone.
EXTRAS_REQUIRE["io"] = [
    "tensorflow==2.17.*",
    "tensorflow-text==2.17.*",
    "tensorflow-io==0.37.1",
    "setuptools<82",  # the tensorboard that TensorFlow 2.17 needs imports pkg_resources
]
EXTRAS_REQUIRE["test"] = [
    "pytest",
    "pytest-xdist",
    "ruff",
    "import-linter",
    "mypy",
    "types-PyYAML",
    "jax",
    "pydot",
    "librosa",
    "soxr",
    "kaldi-native-fbank",
    "httpx",
    "pillow",
]

setup(
    name="tfseq2seq",
    version="0.1.0",
    description="Sequence-to-sequence models of text and speech with Keras 3 and TensorFlow, from recipe to serving",
    long_description=README.read_text(encoding="utf-8") if README.exists() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11,<3.14",
    packages=find_packages(include=["tfseq2seq", "tfseq2seq.*"]),
    package_data={"tfseq2seq": ["py.typed"]},
    install_requires=INSTALL_REQUIRES,
    extras_require=EXTRAS_REQUIRE,
    entry_points={"console_scripts": ["tfseq2seq = tfseq2seq.cli:main"]},
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: MacOS",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
)
