"""Captions of photos, and where in the photo the model looks as it writes each word, for a page in docs/.

    python benchmarks/photos.py --run runs/flickr8k --manifest $TFSEQ2SEQ_DATA/flickr8k/captions.tsv

Writes docs/photos/: a PNG file for each of the first photos of the split, and README.md, which shows them with the
caption of the model and those of people. The folder is not in the repository, as the photos are not ours.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from tfseq2seq.cli.runs import open_predictor, open_runs
from tfseq2seq.data.caption_manifests import read_pictures
from tfseq2seq.evaluation.picture_attention import picture_attention_png
from tfseq2seq.inference.generator import Generator
from tfseq2seq.inference.inspection import attention_to_picture


def main(run: str, manifest: str, split: str, count: int, folder: str) -> None:
    model = open_predictor(open_runs([run], []))
    pictures = read_pictures(manifest, split)[:count]
    outputs = Generator(model, 32, 1).generate([Path(picture.path) for picture in pictures])
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    lines = ["# Photos, captions and attention", ""]
    for number, (picture, output) in enumerate(zip(pictures, outputs, strict=True), start=1):
        caption = output.texts[0]
        found, pixels = attention_to_picture(model, Path(picture.path).read_bytes(), caption)
        picture_attention_png(found.weights, found.target_tokens, pixels, str(place / f"{number:02}.png"))
        lines += [f"## {caption}", "", f"![{caption}]({number:02}.png)", ""]
        lines += [f"- {own}" for own in picture.captions] + [""]
        print(f"{number:02}.png  {caption}")
    (place / "README.md").write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--run", required=True, help="folder of a run of pictures")
    parser.add_argument("--manifest", required=True, help="TSV file with the columns split, path and text")
    parser.add_argument("--split", default="test", help="split to show")
    parser.add_argument("--count", type=int, default=10, help="number of photos")
    parser.add_argument("--folder", default="docs/photos", help="where to write")
    given = parser.parse_args()
    main(given.run, given.manifest, given.split, given.count, given.folder)
