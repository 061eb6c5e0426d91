"""All rules in the order in which their causes explain what the others see."""

from collections.abc import Callable

from jaxrec import registry
from jaxrec.diagnosis import causes, symptoms
from jaxrec.diagnosis.finding import Finding
from jaxrec.diagnosis.history import Course

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

AT_ONCE = {
    *(causes.accumulated, causes.summed, causes.identical, causes.rate_high),
    symptoms.bounded,
}
"""Rules about what is broken from the first step on. The others judge what was learned: they wait
until ``Course.begun``."""


def findings(course: Course) -> list[Finding]:
    """What is wrong, the likeliest cause first; empty where nothing is."""
    if not course.measured:
        return []
    rules = [rule for rule in RULES if course.begun or rule in AT_ONCE]
    rules += registry.RULES.registered().values()
    return [found for rule in rules if (found := rule(course)) is not None]
