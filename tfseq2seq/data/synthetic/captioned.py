"""Writing of generated pictures and clips, with a manifest of their captions."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tfseq2seq.data.manifests import ListedFile, write_listed
from tfseq2seq.data.synthetic.splits import check_sizes
from tfseq2seq.progress import tracked

if TYPE_CHECKING:
    import numpy as np

Language = Literal["en", "zh", "both"]


def write_captioned(
    folder: str | Path,
    noun: str,
    suffix: str,
    counts: Mapping[str, int],
    seed: int,
    language: Language,
    known: Callable[[str], Sequence[Any]],
    content: Callable[[Any, np.random.Generator], bytes],
) -> Path:
    """Writes `<noun>.tsv`, with the columns split, path and text, and the files that it lists.

    Existing files are replaced only when all are drawn. The table is written last.

    Args:
        folder: the folder to write to.
        noun: what the files are, "pictures" or "clips".
        suffix: the end of their names.
        counts: the number of files of each split.
        seed: equal seeds give equal files.
        language: of the captions.
        known: gives what the files of a split can show; it has `captions`.
        content: draws one of that, and returns the content of its file.

    Returns:
        The table.

    Raises:
        UserError: a split would be empty, or a file cannot be written.
    """
    check_sizes(counts, noun.removesuffix("s"))

    def drawn() -> Iterator[tuple[str, Any, bytes]]:
        import numpy as np

        for place, (split, count) in enumerate(counts.items()):
            generator, scenes = np.random.default_rng([seed, place]), known(split)
            for _ in range(count):
                scene = scenes[int(generator.integers(len(scenes)))]
                yield split, scene, content(scene, generator)

    def files() -> Iterator[ListedFile]:
        everything = tracked(drawn(), f"drawing {noun}", sum(counts.values()))
        for number, (split, scene, written) in enumerate(everything, start=1):
            name = f"{split}_{number:05d}{suffix}"
            rows = [(split, f"{noun}/{name}", caption) for caption in scene.captions(language)]
            yield name, functools.partial(Path.write_bytes, data=written), rows

    return write_listed(Path(folder) / f"{noun}.tsv", noun, ("split", "path", "text"), files())
