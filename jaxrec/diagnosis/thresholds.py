"""All thresholds at which a figure becomes a finding, with their reasons.

The thresholds were chosen on synthetic data (``python -m bench doctor --half synthetic``). Three of
them (NOTHING, SMOOTHED, ONE_DIRECTION) were revised after a first look at the other half of the
benchmark, which has real data and other models.
"""

BEGUN = 30
"""Number of steps after which the training is judged; before, only faults that show at once are.
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
"""Factor between the training loss and the mean loss of single pairs, above which the training loss
is not a mean over pairs. If a batch is summed inside one sigmoid, the loss is nearly 0, or too
large by a factor of the batch size."""

NOTHING = 0.01
"""Training loss that counts as nearly 0 for ``SUMMED``. A mean over pairs is not so low while the
loss of single pairs is 20 times as high."""

WRONG = 0.1
"""Share of train pairs in the wrong order with a saturated sigmoid, above which steps overshoot.
Sound runs have less than 0.01, since pairs in the wrong order have the largest gradient and are
corrected first."""

LEAP = 10.0
"""Movement of the embeddings, in initial lengths, above which steps overshoot if the loss is above
that of a constant prediction. At a suitable rate, the loss falls below that of a constant
prediction before rows have moved so far."""

WORSE = 1.02
"""Loss relative to a constant prediction's, above which a run is worse than untrained. With a small
initial table, the mean over a few steps is within 0.01 of 1."""

STRIDE = 0.3
"""Movement of a table row in one step of Adam, relative to the row's length, above which steps
overshoot. It is below 0.1 in healthy runs. A row that moves by a third of its length in each step
cannot settle."""

MOVED = 0.05
"""Movement of embeddings, in initial lengths, below which a finished run has learned nothing. The
embeddings of healthy runs move by 1 or more."""

AT_CONSTANT = 0.97
"""Loss relative to the best constant prediction's, above which nothing was learned."""

LEARNED = 0.9
"""Loss relative to the best constant prediction's, below which something was learned."""

TOLD = 0.65
"""Share of train pairs ranked above a random item, from which on the model has learned something,
whatever the loss. Random scores give 0.5 +- 0.02."""

EVEN = 0.002
"""Difference of the last two logged means of the loss, relative to a constant prediction's loss,
above which the loss is still falling."""

STUCK = 100
"""Number of steps before which it is no fault that the loss is that of a constant prediction: at
the default learning rate, rows need about 100 steps to take a direction."""

CARRIED = 1.0
"""Mean product of user and item embeddings, in standard deviations of the ratings, above which the
embeddings reproduce the mean rating. Centred ratings give 0 +- 0.7 (unseen items are liked less),
raw ratings give 3 or more."""

LEANING = 0.3
"""Mean cosine of users with items, above which all vectors share a direction. Sound rating models
are within 0.1 of 0."""

SIMPLEX = 0.9
"""Share of rows that are probability distributions, above which the outputs pass a softmax. Only a
softmax on the outputs turns rows into distributions."""

ALIKE = 0.3
"""Share of pairs whose negative has the same inputs as the positive, above which identical
negatives are reported. No model can separate the two, so the loss of the pair stays at a constant
prediction's. Uniform negatives give a share below 0.1."""

BLIND = 0.65
"""Share of train pairs ranked above a random item, below which a model that separates its training
negatives has learned nothing about other items. It is above 0.8 in healthy runs."""

FALSE = 0.2
"""Share of negatives that are train items of their user, above which false negatives are reported.
For uniform negatives, the share is the density of the data, below 0.1. At 0.2, every fifth gradient
points the wrong way."""

DENSE = 2.0
"""Share of negatives that are train items of their user, relative to the density of the data, above
which false negatives are reported. In dense data, negatives are often known items however they are
drawn, and models learn nevertheless."""

SMOOTHED = 0.7
"""Mean cosine of the nodes at the end, above which propagation has made them alike. It is below 0.4
in healthy models of two to four layers."""

BEFORE = 0.03
"""Mean cosine of the nodes before the first step, above which propagation alone aligns nodes, since
the table is still noise. On synthetic data, a mean over two to four layers gives less than 0.02. A
mean over 30 layers gives 0.3, or 0.04 or more with eight items per user."""

SHRUNK = 0.3
"""Length of the embeddings relative to the start, below which L2 outweighs the loss."""

TABLE_SHRUNK = 0.05
"""Length of the rows of the ids' table relative to the start, below which L2 outweighs the loss. It
is smaller than ``SHRUNK``, since later layers can compensate in part."""

DEAD = 0.5
"""Share of rectified units that are 0 in every row of the sample, above which dead units are
reported. It is below 0.3 in healthy layers."""

FALLEN = 0.05
"""Relative fall of a ranking metric from its best value, above which a run has overfitted."""

NOISE = 0.45
"""Fall by chance of a metric in [0, 1], multiplied by the root of the number of users. It is about
twice 0.22, the standard deviation of one user's change in recall between two evaluations."""

FALLEN_ERROR = 0.04
"""Relative rise of a rating error from its best value, above which a run has overfitted. It is
small, because the error of a good model is only a tenth below that of the mean rating."""

GAP = 0.13
"""Share of train pairs that are ranked right, minus that of validation pairs, above which a fall of
the metric is a sign of memorization. It is below 0.11 in healthy runs."""

BY_HEART = 10.0
"""Ratio of the validation loss to the train loss, above which a run has overfitted if the gap is
above ``GAP`` and the metric is past its best value. The ratio finds models that memorize early:
their best metric is so poor that it cannot fall much. The ratio is 40 or more in these models, and
below 2 in healthy runs."""

PAST = 2
"""Number of evaluations after the best one at which a metric counts as past its best value."""

FLOOR = 0.85
"""Least loss of bounded scores relative to the constant's, above which the remaining range is too
small to train. Cosines without a temperature reach 0.2 with bpr and 0.65 with 256 negatives, and
train well."""

SHARP = 0.5
"""Share of saturated train pairs, for bounded scores. The temperature is too low if the share is
above this value both before the first step and now. A high share now is not a fault by itself: in a
healthy run, all well-ranked pairs may be saturated (a cosine of 0.8 at a temperature of 0.1)."""

SATURATED = 0.9
"""Share of saturated train pairs, above which the loss can no longer improve."""

GROWN = 50.0
"""Growth of the embeddings, in initial lengths, above which they explode if the train pairs are
saturated too: L2 does not limit the lengths."""

OVERLAP = 0.8
"""Share of a list that two users have in common, above which all users get the same items. The
share of uniformly drawn lists does not count: two lists of 20 among 24 items have at least 16 in
common. The share is below 0.5 in healthy runs."""

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
