"""What an export of a task for lm-eval prints."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from ntpctp.data.lm_eval_export import Exported


def exported_lines(exported: Sequence[Exported], directory: Path) -> Iterator[str]:
    """Yield the exported tasks, differences in lm-eval, and the command that uses them."""
    for split in exported:
        yield f"{split.name}: {split.items} items, judged by {split.judged_by}"
        if split.differing is None:
            continue
        other, elsewhere = split.differing.other_tokens, split.differing.split_elsewhere
        if other:
            yield f"  {other} items are tokenized differently in lm-eval, so their scores differ"
        if elsewhere:
            yield (
                f"  {elsewhere} prompts end in white space, which lm-eval moves to every choice: "
                "log-likelihoods include it, accuracy is the same"
            )
        if split.cut:
            yield (
                f"  {split.cut} prompts with their longest answer exceed the model's context: "
                "lm-eval truncates them on the left without a warning"
            )
        if not other and not elsewhere:
            yield "  lm-eval tokenizes all items like ntpctp"
    names = ",".join(split.name for split in exported)
    yield f"lm_eval --include_path {directory} --tasks {names} --model_args pretrained=CHECKPOINT"
