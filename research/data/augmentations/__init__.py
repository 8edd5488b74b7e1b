"""Kinds of augmentation, a file each; `research.data.augment` knows them by name."""
