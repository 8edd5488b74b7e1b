"""Networks of few lines: each kind of module once, for tests that take arithmetic.

The fixture `short` puts them in place of the papers' tables, `shortest` those of even fewer lines,
in which not every kind of module is left.
"""

from research.models.cnn import (
    googlenet,
    inception_v3,
    inception_v4,
    mobilenet_v1,
    mobilenet_v2,
    resnet,
    xception,
)

TABLES = {
    googlenet: {
        "TABLE": {
            "inception3a": (8, 8, 16, 8, 8, 8),
            "pool3": (3, 2),
            "inception4a": (8,) * 6,
            "inception4d": (8,) * 6,
        }
    },
    inception_v3: {
        "STEM": {"conv1a": (8, 3, 2, 0)},
        "MODULES": {
            "inception5b": inception_v3.figure_5(8),
            "inception6a": inception_v3.FIGURE_10_35,
            "inception6e": inception_v3.figure_6(8),
            "inception7a": inception_v3.FIGURE_10_17,
            "inception7b": inception_v3.FIGURE_7,
        },
    },
    inception_v4: {
        "MODULES": {
            "stem4": inception_v4.STEM_4,
            "inception_a1": inception_v4.INCEPTION_A,
            "inception_c1": inception_v4.INCEPTION_C,
        }
    },
    xception: {
        "BLOCKS": {"block1": ((72, 72), 2), "block2": ((72,) * 3, 1), "block12": ((72, 80), 2)}
    },
    resnet: {"BLOCKS": {18: (1, 1, 1, 1), 50: (1, 1, 1, 1)}},
}

SHORTEST = TABLES | {
    inception_v3: {
        "STEM": {"conv1a": (8, 3, 2, 0)},
        "MODULES": {
            "inception5b": inception_v3.figure_5(8),
            "inception6a": inception_v3.FIGURE_10_35,
            "inception6e": inception_v3.figure_6(8),
        },
    },
    inception_v4: {
        "MODULES": {
            "stem4": inception_v4.STEM_4,
            "inception_a1": inception_v4.INCEPTION_A,
        }
    },
    mobilenet_v1: {"BLOCKS": ((64, 1), (128, 2), (128, 1))},
    resnet: {"BLOCKS": {18: (1, 1), 50: (1, 1)}},
    mobilenet_v2: {"STAGES": ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 1, 1))},
}
