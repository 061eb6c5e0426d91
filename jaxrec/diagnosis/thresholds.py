"""Where a figure begins to be a finding, each with the reason: all of them are here.

Chosen on made-up data (``python -m bench doctor --half synthetic``). NOTHING, SMOOTHED and
ONE_DIRECTION were set anew after a first reading of the other half, real data with other models.
"""

BEGUN = 30
"""Steps before which nothing is judged but what is broken at once. Adam at its default rate takes a
row a third of its length in so many, and a sound model its first popular items."""

AHEAD = 4.0
"""How many times further than now a run may still get, where it has so much of its length before
it: embeddings that would still be at their start then are reported early."""

FED = 3.0
"""Norm of what the optimizer takes for the gradient, over the norm of the step's own gradient. It
is 1 in a sound loop whatever the optimizer; a sum over t steps is up to t times as long."""

SUMMED = 20.0
"""How many times the loss of the steps is above or below what single pairs cost. A mean over pairs
is near it; inside one sigmoid the sum of a batch gives nearly 0, or as many times too much as the
batch has pairs."""

NOTHING = 0.01
"""A loss near 0 for the above: no mean over pairs comes there while pairs cost 20 times as much."""

WRONG = 0.1
"""Share of the train pairs that a saturated sigmoid has the wrong way round. Sound runs have less
than 0.01: such a pair has the largest gradient that there is, and is put right first."""

LEAP = 10.0
"""How many times their first length embeddings have moved, while the loss is above the constant's.
At a rate that fits a loss is below the constant's before rows have moved that far."""

WORSE = 1.02
"""Loss over that of a constant prediction, above which a run is worse than if it had done nothing:
the mean of a few steps of a table that is still small lies within 0.01 of 1."""

STRIDE = 0.3
"""How far one step of Adam can move a row of the table, over the row's length. Sound runs: below
0.1, and a third of a row's length a step leaves it no place to settle."""

MOVED = 0.05
"""How far, in lengths, embeddings have moved at the end of a run that learned nothing. A step that
helps changes more than rounding does; sound runs move by 1 and more."""

AT_CONSTANT = 0.97
"""Loss over that of the best constant prediction, above which nothing was learned."""

LEARNED = 0.9
"""The same, below which something was."""

TOLD = 0.65
"""Share of train pairs ranked above a random item from which on something was learned, whatever the
loss says. Noise gives 0.5 +- 0.02."""

EVEN = 0.002
"""How much of a constant prediction's loss two means of the log must differ by for the loss to be
falling still."""

STUCK = 100
"""Steps before which a loss that is still the constant's says little: at the default learning rate
rows begin to point somewhere only then."""

CARRIED = 1.0
"""What products of embeddings have to make up for on average, in standard deviations of the
ratings. Centred ratings leave 0 +- 0.7 (unseen items are liked less); raw ones 3 and more."""

LEANING = 0.3
"""Mean cosine of users with items, above which all vectors lean one way; sound models of ratings
are within 0.1 of 0."""

SIMPLEX = 0.9
"""Share of rows that are probabilities. Only a softmax on the outputs makes such rows."""

ALIKE = 0.3
"""Share of pairs whose negative has the very inputs of the positive: no model can tell these apart,
so their loss is the constant's whatever is learned. Uniform negatives give below 0.1."""

BLIND = 0.65
"""Share of train pairs ranked above a random item, at which a model that learned its own negatives
has learned nothing about the others. Sound runs: above 0.8."""

FALSE = 0.2
"""Share of negatives that their user is known to like. Uniform negatives give the density of the
data, below 0.1; from here on every fifth gradient points the wrong way."""

DENSE = 2.0
"""The same over the density of the data: of a dense matrix every negative is often one that the
user likes, however it is drawn, and models learn all the same."""

SMOOTHED = 0.7
"""Mean cosine of the nodes at the end, above which propagation has made them alike. Sound models of
two to four layers: below 0.4."""

BEFORE = 0.03
"""The same before the first step, when the table is noise: what propagation alone aligns, so that
the cause is not another. On made-up data a mean over two to four layers gives below 0.02, over 30
layers 0.3, and where users have eight items each, 0.04 and more."""

SHRUNK = 0.3
"""Length of the embeddings over that at the start, below which L2 outweighs the loss."""

TABLE_SHRUNK = 0.05
"""The same of the ids' table, where layers behind it can make up for a part."""

DEAD = 0.5
"""Share of rectified units that are 0 for every row of the sample. Sound layers: below 0.3."""

FALLEN = 0.05
"""How far, relative, the validation metric of rankings has fallen from its best."""

NOISE = 0.45
"""A fall that a metric between 0 and 1 may have by chance, times the root of the number of users:
twice 0.22, the standard deviation of what one user's recall differs by between two evaluations."""

FALLEN_ERROR = 0.04
"""The same for errors, which move less: the whole way from a mean to a good model is a tenth."""

GAP = 0.13
"""Pairs ranked right in train less those in validation: with a fall, the sign of a model that
learns pairs by heart. Sound runs: below 0.11."""

BY_HEART = 10.0
"""What pairs of validation cost over what train pairs do, where the gap is above GAP and the metric
past its best: 40 and more in models that learn fast by heart, and then need not fall far from a
best that was none. Sound runs: below 2."""

PAST = 2
"""Evaluations since the best one, from which a metric is past it."""

FLOOR = 0.85
"""The least loss that bounded scores can have, over the constant's: what is left is too little to
drive anything. Cosines without a temperature have 0.2 with bpr and 0.65 with 256 negatives, and
train well."""

SHARP = 0.5
"""Share of saturated pairs where scores are bounded, before the first step as well as now: a
temperature that leaves noise no gradient. Pairs that are put right may all be saturated: a cosine
of 0.8 over 0.1 is, and trains well."""

SATURATED = 0.9
"""Share of saturated pairs that is too much for any loss to go on."""

GROWN = 50.0
"""How many times their first length embeddings have, with saturated sigmoids: no L2 holds them."""

OVERLAP = 0.8
"""Share of a list that two users have in common, beyond what lists drawn evenly from the catalogue
have: of 24 items two lists of 20 share 16 at the least. Sound runs: below 0.5."""

POPULAR = 0.5
"""Share of the lists that is among the most popular items, where lists are alike."""

ONE_DIRECTION = 0.95
"""Mean cosine among rows at which they are one row. Users whose features tell little come to 0.93
in sound runs."""

LOW_RANK = 1.5
"""Effective rank at which rows have one direction to differ in."""

WIDE = 4
"""Least width at which the rank says something."""

KNOWN_TEST = 0.01
"""Share of test that a start has been trained on; fewer pairs move recall by less than seeds."""
