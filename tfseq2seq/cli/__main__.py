"""`python -m tfseq2seq.cli` is the command `tfseq2seq`."""

from tfseq2seq.cli import main

main()
