"""Generates from many lines with a tiny model: memory, the first output, and jobs that are killed and continued.

    python benchmarks/many_lines.py FOLDER [--lines 1000000] [--kills 3]

1. The peak memory of `generate` for 10,000 lines and for all lines.
2. Lines that come through a pipe: whether the first output is there before the last line is written.
3. `generate` killed (SIGKILL) at random moments and continued with `--resume`: whether the file is that of the job
   that was not killed.
"""

import argparse
import hashlib
import os
import random
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

COMMAND = [sys.executable, "-m", "tfseq2seq.cli"]
FEW = 10_000


def prepare(folder: Path, lines: int) -> tuple[Path, Path]:
    """Writes the lines, and trains a tiny model for some updates: it must be quick, not right."""
    text, run = folder / "lines.txt", folder / "run"
    rng = random.Random(1)
    words = ["".join(rng.choices("abcdefghij", k=rng.randint(2, 6))) for _ in range(1000)]
    if not text.exists():
        with text.open("w") as file:
            file.writelines(" ".join(rng.choices(words, k=rng.randint(1, 6))) + "\n" for _ in range(lines))
    if not (run / "recipe.yaml").exists():
        pairs = folder / "pairs.txt"
        pairs.write_text("".join(" ".join(rng.choices(words, k=4)) + "\n" for _ in range(2000)))
        block = "{kind: transformer, layers: 1, heads: 2, ffn: 32}"
        recipe = folder / "recipe.yaml"
        recipe.write_text(f"""
name: many
data: {{train: {{source: {pairs}, target: {pairs}}}, holdout: 100}}
source: {{scheme: words, vocabulary_size: 1100}}
target: {{scheme: words, vocabulary_size: 1100}}
model: {{width: 16, encoder: {block}, decoder: {block}}}
training: {{steps: 60, evaluate_every: 60, tensorboard: false}}
search: {{beam: 1, max_length: 8}}
""")
        subprocess.run([*COMMAND, "train", str(recipe), "--run", str(run)], check=True)
    return run, text


def generate(run: Path, text: Path, output: Path, *options: str) -> list[str]:
    return [*COMMAND, "generate", "--run", str(run), "--input", str(text), "--output", str(output), *options]


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def measure(command: list[str]) -> tuple[float, float]:
    """Returns the peak memory of a command in MB, and its seconds."""
    began = time.monotonic()
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command}: exit code {process.returncode}")
    return usage.ru_maxrss / 1024, time.monotonic() - began


def first_output_comes_early(run: Path, text: Path) -> bool:
    """Writes lines into a pipe until the first output is there. The last line follows only then."""
    command = [*COMMAND, "generate", "--run", str(run)]
    with text.open() as file:
        lines = [next(file) for _ in range(FEW)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout
        process.stdin.writelines(lines[:-1])
        process.stdin.flush()
        first = process.stdout.readline()
        process.stdin.write(lines[-1])
        process.stdin.close()
        rest = process.stdout.readlines()
    return bool(first) and len(rest) == FEW - 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--kills", type=int, default=3)
    options = parser.parse_args()
    folder = options.folder
    folder.mkdir(parents=True, exist_ok=True)
    run, text = prepare(folder, options.lines)
    few = folder / "few.txt"
    with text.open() as file:
        few.write_text("".join(next(file) for _ in range(FEW)))

    small, _ = measure(generate(run, few, folder / "few.out"))
    whole, seconds = measure(generate(run, text, folder / "whole.out"))
    rate = options.lines / seconds
    print(
        f"{FEW:,} lines: {small:,.0f} MB; {options.lines:,}: {whole:,.0f} MB ({whole / small:.3f}), {rate:,.0f} lines/s"
    )
    print(f"first output before the last line: {first_output_comes_early(run, few)}")

    killed, rng = folder / "killed.out", random.Random(2)
    killed.unlink(missing_ok=True)
    for kill in range(options.kills):
        process = subprocess.Popen(generate(run, text, killed, *(["--resume"] if kill else [])))
        # After the start, which writes nothing.
        time.sleep(15 + rng.uniform(0.1, 0.6) * seconds / options.kills)
        process.kill()
        process.wait()
    measure(generate(run, text, killed, "--resume"))
    same = digest(killed) == digest(folder / "whole.out")
    print(f"killed {options.kills} times and continued: {'the same file' if same else 'ANOTHER FILE'}")


if __name__ == "__main__":
    main()
