"""Sequences of DNA: is it an enhancer?"""

from research.config import UserError
from research.data import raw
from research.data.dataset import Dataset, Options
from research.data.sets.sentences import labelled_sentences

FILES = {"train": ("non.cv.txt", "enhancer.cv.txt"), "test": ("non.ind.txt", "enhancer.ind.txt")}
CLASSES = ("other", "enhancer")


def dna_enhancer(options: Options) -> Dataset:
    """Stretches of 200 bases that enhance transcription, or do not: 2,968, and 400 for test.

    B. Liu et al., iEnhancer-2L, Bioinformatics 2016, as N. Q. K. Le et al., Briefings in
    Bioinformatics 2021, use it; no licence is stated. `dna_enhancer/enhancer.cv.txt`, `non.cv.txt`,
    `enhancer.ind.txt` and `non.ind.txt` (FASTA) of github.com/khanhlee/bert-enhancer.
    """
    parts = {}
    for part, files in FILES.items():
        texts, labels = [], []
        for label, file in enumerate(files):
            found = _read_fasta(raw.find(options.data_dir, "dna_enhancer", file))
            texts += found
            labels += [label] * len(found)
        parts[part] = (texts, labels)
    return labelled_sentences("dna_enhancer", parts, CLASSES, options, "char")


def _read_fasta(path) -> list[str]:
    """Return the sequences of a FASTA file, in capitals."""
    found: list[str] = []
    for number, line in enumerate(raw.read_lines(path), start=1):
        if line.startswith(">"):
            found.append("")
        elif strange := {*line.strip().upper()} - {*"ACGTN"}:
            raise UserError(
                f"{path}, line {number}: found {min(strange)!r}, expected bases: A, C, G, T or N"
            )
        elif line.strip():
            if not found:
                raise UserError(f"{path}: found no line with '>' first, expected a FASTA file")
            found[-1] += line.strip().upper()
    return found
