"""Accuracy: is the answer right? And the loss on the same items, by the roles of their tokens."""

from typing import Literal

from pydantic import Field

from ntpctp.measures.fields import FirstItems
from ntpctp.measures.measure import BuiltIn

Mode = Literal["choices", "greedy", "reasoning", "teacher_forced"]
"""``choices``: the likeliest candidate. ``greedy``: the decoded answer. ``reasoning``: the answer
after the model's own reasoning. ``teacher_forced``: the greedy choice at every position of the
answer, given the reference before it."""


class Accuracy(BuiltIn):
    r"""Is the answer right? Judged in every mode that the items allow.

    The task's primary mode, which the verdict is about, is ``reasoning`` where examples have
    reasoning, else ``choices`` where they have candidates, else ``greedy``.

    * ``exact_match`` (modes ``greedy`` and ``reasoning``): share of items whose greedily decoded
      answer equals the reference. Both are compared as decoded text without surrounding white
      space, after the task's own normalisation (``data.normalisation``) if it has one. Where an
      example has reasoning, the model writes its own, and its answer is the text after the last
      answer marker. An answer without end-of-sequence token is wrong.
    * ``choice`` (mode ``choices``): share of items whose right candidate has the highest
      log-likelihood, summed over its tokens and the end of sequence, after the prompt (and the
      reference reasoning, if any). ``choice_normalised``: the same with log-likelihoods divided by
      the candidate's number of characters (``acc_norm`` of lm-evaluation-harness). Ties are wrong.
    * ``teacher_forced``: share of items whose answer is the greedy choice at each of its positions,
      given the reference before it (with its reasoning, if any).
    * ``stopped``: share of items whose decoding stopped with the end-of-sequence token.
    * ``judged``: mean score of the decoded answers by the task's own function, from 0 to 1; only
      for tasks that have one (``gym``), which may accept more answers than the reference.
    * ``solution_<name>``: share of items whose decoded answer is the task's reference of that name
      (``inferential``, ``symmetric``; an answer may be both). ``solution_other``: none of them.
    * ``choice_calibration_error``, ``calibration_error``: expected calibration error over 15 bins,
      :math:`\sum_b n_b/n |acc_b - conf_b|`, of the confidence in the likeliest candidate (its share
      of the candidates' likelihood), and of that in the decoded answer (its probability; not given
      where there is reasoning). The standard error is that of 200 resamples of the items.
    * ``choice_brier``: squared distance of the candidates' probabilities from the right answer,
      0 to 2. ``brier``: squared distance of the decoded answer's probability from 1 (right) or 0
      (wrong), 0 to 1.
    * ``answer_loss``, ``uncritical_loss``, ``all_loss``: nats per token over the tokens of the
      answer (the critical ones), over all other tokens, and over all tokens, in each case those
      that have a predecessor: sum over items / number of tokens, the same function for all arms.

    Where items of a split differ in a property that the task declares (hops, depth, anchors, ...),
    ``exact_match``, ``choice`` and ``teacher_forced`` are also given for the items of each level.

    A score counts the items that it applies to: ``choice`` those with candidates, ``exact_match``
    all but plain text. Plain text has no answer to judge: of the scores only ``all_loss`` has a
    value.
    """

    name: Literal["accuracy"] = "accuracy"
    modes: list[Mode] | None = Field(
        None,
        min_length=1,
        description="how answers are judged: choices, greedy, reasoning, teacher_forced; null: "
        "every mode that the items allow",
    )
    prompt_loss: bool = Field(
        True,
        description="also compute the loss on tokens outside the answer, which costs logits at "
        "every token",
    )
    max_items: FirstItems = None
    train_items: int = Field(
        500,
        ge=0,
        description="how many items of the training split, from the first, to see how well it is "
        "fitted",
    )

    version = 2
