"""All thresholds at which a figure becomes a finding, with their reasons.

The thresholds were chosen on synthetic data (``python -m bench doctor --half synthetic``). Three of
them (NOTHING, SMOOTHED, ONE_DIRECTION) were revised after a first look at the other half of the
benchmark, which has real data and other models.
"""

BEGUN = 30
"""Number of steps from which on all rules apply; before, only those in ``rules.AT_ONCE`` apply.
After 30 steps, Adam at its default rate has moved a row by a third of the row's length, and a
healthy model has learned its first popular items."""

AHEAD = 4.0
"""Largest factor by which the movement of embeddings is extrapolated to the end of a run, to report
early that the embeddings will stay near their start."""

FED = 3.0
"""Ratio of the norm of the optimizer's input to the norm of the step's gradient, above which
gradients accumulate. The ratio is 1 in a healthy loop with any optimizer. A sum over t steps is up
to t times as long as one gradient."""

SUMMED = 20.0
"""Ratio of the larger to the smaller of two values, the training loss and the mean loss of single
pairs, above which the training loss is not a mean over pairs. If a batch is summed inside one
sigmoid, the loss is nearly 0, or too large by a factor of the batch size."""

NOTHING = 0.01
"""Training loss below which the loss is nearly 0 in the sense of ``SUMMED``. In a sound run, the
loss is never this low while the mean loss of single pairs is 20 times as high."""

WRONG = 0.1
"""Share of train pairs in the wrong order with a saturated sigmoid, above which steps overshoot.
Sound runs have less than 0.01, since pairs in the wrong order have the largest gradient and are
corrected first."""

LEAP = 10.0
"""Movement of the embeddings, in initial lengths, above which steps overshoot if the loss is above
that of a constant prediction. At a suitable rate, the loss falls below that of a constant
prediction before rows have moved so far."""

WORSE = 1.02
"""Ratio of the loss to the loss of a constant prediction, above which a run is worse than an
untrained model. With a small initial table, the ratio is within 0.01 of 1 as a mean over the first
few steps."""

STRIDE = 0.3
"""Movement of a table row in one step of Adam, relative to the row's length, above which steps
overshoot. It is below 0.1 in healthy runs. A row that moves by a third of its length in each step
cannot settle."""

MOVED = 0.05
"""Movement of embeddings, in initial lengths, below which a finished run has learned nothing. The
embeddings of healthy runs move by 1 or more."""

AT_CONSTANT = 0.97
"""Ratio of the loss to the loss of the best constant prediction, above which nothing was
learned."""

LEARNED = 0.9
"""Ratio of the loss to the loss of the best constant prediction, below which something was
learned."""

TOLD = 0.65
"""Share of train pairs ranked above a random item, from which on the model has learned something,
whatever the loss. Random scores give 0.5 +- 0.02."""

EVEN = 0.002
"""Decrease of the loss between its last two means (``Course.losses``), divided by the loss of a
constant prediction, above which the loss is still falling."""

STUCK = 100
"""Number of steps after which a loss that stays at that of a constant prediction is a fault. At the
default learning rate, the embeddings need about 100 steps to move in a consistent direction."""

CARRIED = 1.0
"""Absolute mean product of user and item embeddings, in standard deviations of the ratings, above
which the embeddings reproduce the mean rating. Centred ratings give less than 0.7, but not 0, since
users like their unseen items less than the items that they have rated. Raw ratings give 3 or
more."""

LEANING = 0.3
"""Mean cosine of users with items, above which all vectors share a direction. Sound rating models
are within 0.1 of 0."""

SIMPLEX = 0.9
"""Share of rows that are probability distributions, above which the outputs pass a softmax. Only a
softmax on the outputs turns rows into distributions."""

ALIKE = 0.3
"""Share of pairs whose negative has the same inputs as the positive, above which identical
negatives are reported. No model can separate the two, so the loss of the pair stays at that of a
constant prediction. Uniform negatives give a share below 0.1."""

BLIND = 0.65
"""Share of train pairs ranked above a random item, below which a model that separates its training
negatives has learned nothing about other items. It is above 0.8 in healthy runs."""

FALSE = 0.2
"""Share of negatives that are train items of their user, above which false negatives are reported
if ``DENSE`` is exceeded too. For uniform negatives, the share is the density of the data, which is
usually below 0.1. At 0.2, every fifth gradient points the wrong way."""

DENSE = 2.0
"""Ratio of the share of negatives that are train items of their user to the density of the data,
above which false negatives are reported if ``FALSE`` is exceeded too. In dense data, negatives are
often train items however they are drawn, and models learn nevertheless."""

SMOOTHED = 0.7
"""Newest mean cosine of the embeddings, above which propagation has made them alike if the mean
cosine was also above ``BEFORE`` at the start. It is below 0.4 in healthy models of two to four
layers."""

BEFORE = 0.03
"""Mean cosine of the embeddings before the first step, above which propagation aligns them. Only
propagation can align them at that time, since the table still holds random numbers. On synthetic
data, models that average the embeddings of all layers have a mean cosine below 0.02 with two to
four layers, and 0.3 with 30 layers. If users have only eight items each, the mean cosine with 30
layers is lower, but at least 0.04."""

SHRUNK = 0.3
"""Length of the embeddings relative to the start, below which L2 outweighs the loss."""

TABLE_SHRUNK = 0.05
"""Length of the rows of the table of id embeddings relative to the start, below which L2 outweighs
the loss. It is smaller than ``SHRUNK``, since later layers can compensate in part."""

DEAD = 0.5
"""Share of rectified units that are 0 in every row of the sample, above which dead units are
reported. It is below 0.3 in healthy layers."""

FALLEN = 0.05
"""Relative fall of a ranking metric from its best value, above which a run has overfitted."""

NOISE = 0.45
"""Largest fall of a metric in [0, 1] that counts as chance, multiplied by the square root of the
number of users. It is about twice 0.22, the standard deviation of one user's change in recall
between two evaluations."""

FALLEN_ERROR = 0.04
"""Relative rise of a rating error from its best value, above which a run has overfitted. It is
small, because the error of a good model is only a tenth below that of the mean rating."""

GAP = 0.13
"""Share of train pairs that are ranked right, minus the share of validation pairs that are ranked
right, above which a fall of the metric is a sign of memorization. The difference is below 0.11 in
healthy runs."""

BY_HEART = 10.0
"""Ratio of the validation loss to the train loss, above which a run has overfitted if the gap is
above ``GAP`` and the metric is past its best value. The ratio finds models that memorize early:
their best metric is so poor that it cannot fall much. The ratio is 40 or more in these models, and
below 2 in healthy runs."""

PAST = 2
"""Number of evaluations after the best one at which a metric counts as past its best value."""

FLOOR = 0.85
"""Ratio of the lowest loss that bounded scores can reach to the loss of a constant prediction,
above which the loss can fall too little for training. With cosines at a temperature of 1, which
train well, the ratio is 0.2 for bpr and 0.65 for softmax with 256 negatives."""

SHARP = 0.5
"""Share of saturated train pairs above which the temperature of bounded scores is too low, if the
share is above this value both before the first step and now. A high share now is not a fault by
itself: in a healthy run, all well-ranked pairs may be saturated (a cosine of 0.8 at a temperature
of 0.1)."""

SATURATED = 0.9
"""Share of saturated train pairs, above which the loss can no longer improve."""

GROWN = 50.0
"""Ratio of the embeddings' length to their initial length, above which they explode if the train
pairs are saturated too. L2 is then too weak to limit the lengths."""

OVERLAP = 0.8
"""Share of a list that two users have in common, above which all users get the same items. The
share is corrected for what uniformly drawn lists have in common: two lists of 20 of 24 items share
at least 16 items. It is below 0.5 in healthy runs."""

POPULAR = 0.5
"""Share of the most popular items in lists that are alike, above which the lists show only
popularity."""

ONE_DIRECTION = 0.95
"""Mean cosine among rows, above which the rows have collapsed. In healthy runs, users with
uninformative features reach 0.93."""

LOW_RANK = 1.5
"""Effective rank below which rows differ in only one direction."""

WIDE = 4
"""Least width at which the effective rank is meaningful."""

KNOWN_TEST = 0.01
"""Share of the test pairs on which the warm start was trained, above which training on test is
reported. A smaller share changes recall by less than a change of the seed does."""
