"""All rules, ordered so that causes come before their symptoms."""

from collections.abc import Callable

from jaxrec import registry
from jaxrec.diagnosis import causes, symptoms
from jaxrec.diagnosis.finding import Finding
from jaxrec.diagnosis.history import Course

Rule = Callable[[Course], Finding | None]

RULES: tuple[Rule, ...] = (
    # Mistakes with direct evidence, from which other findings follow.
    causes.accumulated,
    causes.summed,
    symptoms.bounded,
    causes.identical,
    causes.narrow,
    causes.false_negatives,
    symptoms.not_centred,
    # Faults in settings; the most far-reaching settings come first.
    causes.l2_strong,
    causes.rate_high,
    causes.rate_low,
    symptoms.temperature,
    symptoms.smoothed,
    causes.overfitted,
    symptoms.dead,
    symptoms.exploded,
    # Symptoms without a known cause.
    symptoms.stuck,
    symptoms.popular,
    symptoms.collapsed,
)

AT_ONCE = {
    *(causes.accumulated, causes.summed, causes.identical, causes.rate_high),
    symptoms.bounded,
}
"""Rules that apply from the first step on. All other rules judge the progress of the training, and
apply only after ``Course.begun`` is True."""


def findings(course: Course) -> list[Finding]:
    """Apply all rules; return the findings, with the likeliest cause first."""
    if not course.measured:
        return []
    rules = [rule for rule in RULES if course.begun or rule in AT_ONCE]
    rules += registry.RULES.registered().values()
    return [found for rule in rules if (found := rule(course)) is not None]
