"""What an example may be, and that shared examples between splits are found."""

from collections.abc import Sequence

import pytest

from ntpctp._core.errors import InputError
from ntpctp.data.example import Example, Message, Segment
from ntpctp.data.leakage import check_disjoint
from ntpctp.data.tasks import TASKS
from ntpctp.data.tasks.base import Task


def example(prompt="2+2=", answer="4", **options):
    return Example((Segment("prompt", prompt), Segment("answer", answer)), **options)


class Fixed(Task):
    """A task whose splits are given."""

    name: str = "fixed"
    splits: dict[str, tuple[Example, ...]]

    @property
    def evaluation_splits(self) -> tuple[str, ...]:
        return tuple(name for name in self.splits if name != "train")

    def split(self, name: str) -> Sequence[Example]:
        return self.splits[name]


def test_answer_text_and_key():
    whole = Example(
        (Segment("prompt", "2+2="), Segment("reasoning", "easy: "), Segment("answer", "4")),
        answer_marker=": ",
    )
    assert whole.answer == "4"
    assert whole.text("reasoning") == "easy: "
    assert whole.key == ("2+2=", "easy: ", "4")
    chat = Example(messages=(Message("user", "2+2?"), Message("assistant", "4")))
    assert chat.answer == "4"
    assert chat.text("prompt") == ""
    assert chat.key == ("user", "2+2?", "", "assistant", "4", "", "")


def test_source_choices_and_marker_do_not_make_another_example():
    assert example(source="a", choices=("4", "5")).key == example().key


@pytest.mark.parametrize(
    "segments, options, match",
    [
        ((), {}, "either segments or messages, found both or neither"),
        (("answer",), {"messages": (Message("assistant", "4"),)}, "found both or neither"),
        ((), {"messages": (Message("user", "4"),)}, "the last message .* found 'user'"),
        (("answer", "prompt"), {}, "last segment to be the answer, found 'prompt'"),
        (
            ("prompt", "answer"),
            {"choices": ("3", "5")},
            r"'text ' is not among the choices \['3', '5'\]",
        ),
        (("prompt", "reasoning", "answer"), {}, "must end with a non-empty answer marker"),
        (("prompt", "reasoning", "answer"), {"answer_marker": "#"}, r"answer marker \(here '#'\)"),
    ],
)
def test_what_an_example_may_not_be(segments, options, match):
    with pytest.raises(InputError, match=f"here: .*{match}"):
        Example(tuple(Segment(role, "text ") for role in segments), source="here", **options)


@pytest.mark.parametrize("answer", ["", " \n"])
def test_empty_answer(answer):
    with pytest.raises(InputError, match="empty answer"):
        example(answer=answer)


@pytest.mark.parametrize("first, second", [("train", "test"), ("test", "ood")])
def test_a_shared_example_is_found_wherever_it_is(first, second):
    splits = {
        name: tuple(example(f"{name}{k}") for k in range(3)) for name in ("train", "test", "ood")
    }
    check_disjoint(Fixed(splits=splits).all_splits())
    shared = (example("shared"),)
    splits = {name: rows + shared * (name in (first, second)) for name, rows in splits.items()}
    with pytest.raises(
        InputError,
        match=rf"'{first}' \(example 3\) and '{second}' \(example 3\) share an example: 'shared 4'",
    ):
        check_disjoint(Fixed(splits=splits).all_splits())


def test_copies_within_a_split_and_other_answers_are_no_overlap():
    check_disjoint(
        Fixed(
            splits={"train": (example(), example()), "test": (example(answer="four"),)}
        ).all_splits()
    )


def test_the_table_names_each_task_as_it_names_itself():
    assert len(TASKS) >= 3
    for name, task in TASKS.items():
        assert task.model_fields["name"].default == name
        assert task.__doc__ and all(
            field.description for key, field in task.model_fields.items() if key != "name"
        )
