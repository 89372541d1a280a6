"""Numbers that decide what stages compute and that no flag sets. A stage names those that it depends on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Constants:
    """Change one, and every stage that declares it runs again."""

    # Calibration samples that the repair is fitted on, at most, beside those that judge; of large models, and
    # of sets that are only compared, as many as take minutes there.
    repair_samples: int = 1024
    quick_repair_samples: int = 128
    # Samples that say whether a repair ships, and a healing.
    confirm_samples: int = 128
    # Calibration samples that a slim model is healed on, beside those that judge; their answers are asked of
    # the dense model first.
    heal_samples: int = 512
    # Calibration samples that the model is asked without each layer, or for slopes: about a pass per layer.
    bypass_samples: int = 128
    # Calibration samples on which layers are eliminated one by one: about half a pass per layer, each round.
    elimination_samples: int = 32
    # Longest answer when accuracy is measured.
    answer_tokens: int = 32
    # Generated tokens of a timing run when the workload itself asks for one only: per-token times need some.
    timed_tokens: int = 8
    # Questions whose pictures are decoded at a time: photos of a user's data may be large.
    pictures_at_once: int = 64
    # Where the target is measured, one more layer goes as long as the measured latency misses the budget.
    most_attempts: int = 4


CONSTANTS = Constants()
# Constants that change no result of any stage, each with the reason.
IRRELEVANT = {
    "pictures_at_once": "how many pictures are in memory at a time; answers are the same",
    "most_attempts": "how often the loop over stages turns; each attempt has its own key",
}
