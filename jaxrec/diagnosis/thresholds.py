"""All thresholds at which a figure becomes a finding, with their reasons.

Chosen on synthetic data (``python -m bench doctor --half synthetic``). NOTHING, SMOOTHED and
ONE_DIRECTION were revised after a first look at the other half, real data with other models.
"""

BEGUN = 30
"""Steps before which only faults that show at once are judged. By then Adam at its default rate has
moved a row by a third of its length, and a sound model has learned its first popular items."""

AHEAD = 4.0
"""Factor by which embeddings may still move further in the rest of a run. If they would be near
their start even then, the run is reported early."""

FED = 3.0
"""Ratio of the norm of the optimizer's input to that of the step's gradient. It is 1 in a sound
loop with any optimizer; a sum over t steps is up to t times as long."""

SUMMED = 20.0
"""Factor by which the training loss is above or below that of single pairs. A mean over pairs is
close to it; a batch summed inside one sigmoid gives nearly 0, or too much by the batch size."""

NOTHING = 0.01
"""Loss that counts as nearly 0 for ``SUMMED``: a mean over pairs is not so low while single pairs
cost 20 times as much."""

WRONG = 0.1
"""Share of train pairs in the wrong order with a saturated sigmoid. Sound runs have less than 0.01,
since such pairs have the largest gradient and are corrected first."""

LEAP = 10.0
"""Movement of the embeddings, in initial lengths, while the loss is above the constant's. At a
fitting rate, the loss is below the constant's before rows have moved so far."""

WORSE = 1.02
"""Loss relative to a constant prediction's, above which a run is worse than untrained. With a small
initial table the mean of a few steps lies within 0.01 of 1."""

STRIDE = 0.3
"""Movement of a table row by one step of Adam, relative to the row's length. Sound runs: below 0.1.
With a third of its length per step, a row cannot settle."""

MOVED = 0.05
"""Movement of embeddings, in lengths, below which a finished run has learned nothing. Sound runs
move by 1 and more."""

AT_CONSTANT = 0.97
"""Loss relative to the best constant prediction's, above which nothing was learned."""

LEARNED = 0.9
"""Loss relative to the best constant prediction's, below which something was learned."""

TOLD = 0.65
"""Share of train pairs ranked above a random item, from which on something was learned at any loss.
Noise gives 0.5 +- 0.02."""

EVEN = 0.002
"""Difference of two logged means, relative to the constant's loss, at which the loss is still
falling."""

STUCK = 100
"""Steps before which a loss at the constant's says little: at the default learning rate, rows need
as many to take a direction."""

CARRIED = 1.0
"""Mean product of embeddings, in standard deviations of the ratings. Centred ratings give 0 +- 0.7
(unseen items are liked less), raw ones 3 and more."""

LEANING = 0.3
"""Mean cosine of users with items, above which all vectors share a direction. Sound rating models
are within 0.1 of 0."""

SIMPLEX = 0.9
"""Share of rows that are probabilities. Only a softmax on the outputs makes such rows."""

ALIKE = 0.3
"""Share of pairs whose negative has the same inputs as the positive. No model can separate them, so
their loss stays at the constant's. Uniform negatives give below 0.1."""

BLIND = 0.65
"""Share of train pairs ranked above a random item, below which a model that separates its training
negatives has learned nothing about other items. Sound runs: above 0.8."""

FALSE = 0.2
"""Share of negatives that are train items of their user. Uniform negatives give the density of the
data, below 0.1. At this threshold every fifth gradient points the wrong way."""

DENSE = 2.0
"""The same share relative to the density of the data: in a dense matrix, negatives are often known
items however they are drawn, and models learn nevertheless."""

SMOOTHED = 0.7
"""Mean cosine of the nodes at the end, above which propagation has made them alike. Sound models of
two to four layers: below 0.4."""

BEFORE = 0.03
"""The same before the first step, when the table is noise and only propagation aligns nodes. On
synthetic data, a mean over two to four layers gives below 0.02, over 30 layers 0.3, and with eight
items per user 0.04 and more."""

SHRUNK = 0.3
"""Length of the embeddings relative to the start, below which L2 outweighs the loss."""

TABLE_SHRUNK = 0.05
"""The same for the ids' table; later layers can compensate in part."""

DEAD = 0.5
"""Share of rectified units that are 0 in every row of the sample. Sound layers: below 0.3."""

FALLEN = 0.05
"""Relative fall of a validation ranking metric from its best."""

NOISE = 0.45
"""Fall of a metric in [0, 1] by chance, times the root of the number of users: twice 0.22, the
standard deviation of one user's change in recall between two evaluations."""

FALLEN_ERROR = 0.04
"""The same for errors, which move less: a good model is only a tenth better than the mean."""

GAP = 0.13
"""Share of pairs ranked right in train minus that in validation; together with a fall, a sign of
memorization. Sound runs: below 0.11."""

BY_HEART = 10.0
"""Loss of validation pairs relative to train pairs, with a gap above GAP and the metric past its
best: 40 and more in models that memorize early, whose best is so poor that no large fall follows.
Sound runs: below 2."""

PAST = 2
"""Evaluations after the best one, from which on a metric counts as past its best."""

FLOOR = 0.85
"""Least loss of bounded scores relative to the constant's, above which the remaining range is too
small to train. Cosines without a temperature have 0.2 with bpr and 0.65 with 256 negatives, and
train well."""

SHARP = 0.5
"""Share of saturated pairs with bounded scores, both before the first step and now, at which the
temperature is too low. Well-ranked pairs may all be saturated in a sound run, such as a cosine of
0.8 over 0.1."""

SATURATED = 0.9
"""Share of saturated pairs at which no loss can improve."""

GROWN = 50.0
"""Growth of the embeddings, in initial lengths, with saturated sigmoids: L2 does not limit them."""

OVERLAP = 0.8
"""Share of a list that two users have in common, above that of uniformly drawn lists: two lists of
20 among 24 items share at least 16. Sound runs: below 0.5."""

POPULAR = 0.5
"""Share of the most popular items in lists that are alike."""

ONE_DIRECTION = 0.95
"""Mean cosine among rows at which they are collapsed. In sound runs, users with uninformative
features reach 0.93."""

LOW_RANK = 1.5
"""Effective rank below which rows differ in only one direction."""

WIDE = 4
"""Least width at which the effective rank is meaningful."""

KNOWN_TEST = 0.01
"""Share of test on which the warm start was trained; fewer pairs change recall by less than seeds
do."""
