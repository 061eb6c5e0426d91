"""All rules in the order in which their causes explain what the others see."""

from collections.abc import Callable

from jaxrec.doctor import causes, symptoms
from jaxrec.doctor.course import Course
from jaxrec.doctor.finding import Finding

Rule = Callable[[Course], Finding | None]

RULES: tuple[Rule, ...] = (
    # Mistakes that can be read off directly; whatever else is found follows from them.
    causes.accumulated,
    causes.summed,
    symptoms.bounded,
    causes.identical,
    causes.narrow,
    causes.false_negatives,
    symptoms.not_centred,
    # Settings; those that explain the most come first.
    causes.l2_strong,
    causes.rate_high,
    causes.rate_low,
    symptoms.temperature,
    symptoms.smoothed,
    causes.overfitted,
    symptoms.dead,
    symptoms.exploded,
    # What is seen without its cause.
    symptoms.stuck,
    symptoms.popular,
    symptoms.collapsed,
)


def findings(course: Course) -> list[Finding]:
    """What is wrong, the likeliest cause first; empty where nothing is."""
    if not course.measured:
        return []
    return [found for rule in RULES if (found := rule(course)) is not None]
