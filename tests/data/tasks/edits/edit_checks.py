"""What every edit must fulfil, against the solver of a task's own tests."""

import re
from collections import Counter
from itertools import pairwise

from ntpctp._core.rng import generator
from ntpctp.data.tasks.edits.base import prompt_of
from ntpctp.data.tokenize import Vocabulary

LETTERS = ("typos", "case", "white_space")  # these may make words that no solver reads


def words(text):
    return re.findall(r"\S+", text)


def stream(name, index):
    return generator(7, "edits", name, index)


def known_words(task):
    """A tokenizer over all examples of a task, as an experiment without its own has it."""
    vocabulary = Vocabulary(task.pieces)
    for examples in task.all_splits().values():
        for example in examples:
            vocabulary.add("".join(segment.text for segment in example.segments))
    return vocabulary.tokenizer()


def check_kept(task, solve, entities=(), number=200, without=()):
    """Check all edits that keep the answer: every split, item and usual strength.

    Args:
        task: with at least ``number`` examples a split.
        solve: returns the answer of an example from its prompt alone, or fails.
        entities: words (in any case) that typing errors and capitals must not touch.
        without: names of edits that may leave a quarter of the items and more as they are or give
            None.

    Returns:
        How many edited examples were checked, by edit.
    """
    tokenizer, entities = known_words(task), {word.lower() for word in entities}
    counts = Counter()
    for split in ("train", *task.evaluation_splits):
        examples = task.split(split)[:number]
        assert len(examples) == number
        kept = {name: edit for name, edit in task.edits(split).items() if edit.keeps_answer}
        for name, edit in kept.items():
            assert edit.strengths[0] == 0 and list(edit.strengths) == sorted({*edit.strengths})
            tried, changed = 0, 0
            for index, example in enumerate(examples):
                unedited = edit.apply(example, 0, stream(name, index))
                assert unedited.example == example and unedited.renamed == ()
                for strength in edit.strengths[1:]:
                    tried += 1
                    edited = edit.apply(example, strength, stream(name, index))
                    if index < 20:
                        assert edited == edit.apply(example, strength, stream(name, index))
                    if edited is None:
                        continue
                    changed += edited.example != example
                    check_one(example, edited, name, solve, entities, tokenizer)
                    counts[name] += 1
            assert changed > 0.75 * tried or (name in without and changed), (split, name, changed)
    return counts


def check_one(example, edited, name, solve, entities, tokenizer):
    new = edited.example
    assert edited.restored(new.answer) == example.answer
    assert tuple(map(edited.restored, new.choices)) == example.choices
    assert [(n, edited.restored(t)) for n, t in new.references] == list(example.references)
    assert new.strata == example.strata and new.answer_marker == example.answer_marker
    before, after = words(prompt_of(example)), words(prompt_of(new))
    assert prompt_of(new) != prompt_of(example) or name == "renaming"
    if name not in LETTERS:
        assert solve(new) == new.answer
        ids = tokenizer(prompt_of(new), add_special_tokens=False).input_ids
        assert ids and tokenizer.unk_token_id not in ids
        return
    assert solve(example) == new.answer == example.answer
    assert new.segments[1:] == example.segments[1:]
    assert len(before) == len(after)
    if name == "white_space":
        assert before == after and prompt_of(new)[-1:] == prompt_of(example)[-1:]
    for old, word in zip(before, after, strict=True):
        if old != word:
            bare = old.strip(".,:?").lower()
            assert bare not in entities
            assert name == "case" or bare not in ("not", "no", "or", "true", "false")
            assert not any(sign.isdigit() for sign in old)
            assert name != "case" or old.lower() == word.lower()
            assert word.strip(".,:?").lower() not in entities or name == "case"


def check_contrast(task, solve, number=200, least=1.0):
    """Check that the contrast changes the answer to what the solver says.

    Args:
        least: share of the items of every split that must have a contrast.
    """
    tokenizer = known_words(task)
    for split in ("train", *task.evaluation_splits):
        edit = task.edits(split)["contrast"]
        assert edit.strengths == (0, 1) and not edit.keeps_answer
        found = 0
        for index, example in enumerate(task.split(split)[:number]):
            assert edit.apply(example, 0, stream("contrast", index)).example == example
            edited = edit.apply(example, 1, stream("contrast", index))
            if index < 20:
                assert edited == edit.apply(example, 1, stream("contrast", index))
            if edited is None:
                continue
            found += 1
            new = edited.example
            assert new.answer != example.answer == solve(example) and edited.renamed == ()
            assert solve(new) == new.answer, (prompt_of(example), prompt_of(new))
            assert new.choices == example.choices and (not new.choices or new.answer in new.choices)
            ids = tokenizer(prompt_of(new) + new.answer, add_special_tokens=False).input_ids
            assert tokenizer.unk_token_id not in ids
        assert found >= least * number, (split, found)


def check_nested(task, split, names, number=40):
    """Check that a stronger edit changes every word that a weaker one has changed, alike."""
    for name in names:
        edit = task.edits(split)[name]
        differing = 0
        for index, example in enumerate(task.split(split)[:number]):
            texts = [
                words(prompt_of(edited.example))
                for strength in edit.strengths
                if (edited := edit.apply(example, strength, stream(name, index)))
            ]
            original = texts[0]
            for weak, strong in pairwise(texts):
                assert len(weak) == len(strong) == len(original)
                assert all(s == w for o, w, s in zip(original, weak, strong, strict=True) if o != w)
                differing += weak != strong
        assert differing
