"""The trainers that `benchmarks/training` compares, each in a process of its own, on the same tokenised rows.

Asked `{"round": i, "steps": n}` one trains on the round's n·32 rows for every prompt that it trains at once, and
answers `{"seconds", "rows", "grown_bytes"}`: rows counted over its prompts, and the most memory that was resident
during the round, less what was resident before. Tokenising comes before, for each of them.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from benchmarks.common.peak_memory import peak_bytes, reset_peak
from benchmarks.common.process import answer_lines

if TYPE_CHECKING:
    from backbone import Precision

BATCH_SIZE = 32
PROMPT_LENGTH = 10
LR = 0.3
MAX_ROWS = 2_000
Train = Callable[[int, int], dict[str, float]]


def main(name: str, folder: str, task: str) -> None:
    """Serve one trainer until standard input ends."""

    def make() -> Callable[[object], object]:
        maker: dict[str, Callable[[], Train]] = {
            "superpos_1": lambda: superpos_trainer(Path(folder), task, slots=1),
            "superpos_bf16": lambda: superpos_trainer(Path(folder), task, slots=1, precision="bf16"),
            "superpos_8": lambda: superpos_trainer(Path(folder), task, slots=8),
            "peft": lambda: _peft(Path(folder), task),
            "peft_grouped": lambda: _peft(Path(folder), task, grouped=True),
            "peft_bf16": lambda: _peft(Path(folder), task, bf16=True),
        }
        train = maker[name]()

        def answer(question: object) -> object:
            asked = cast(Mapping[str, int], question)
            before = reset_peak()
            measured = train(asked["round"], asked["steps"])
            return measured | {"grown_bytes": peak_bytes() - before}

        return answer

    answer_lines(make)


def _rows(backbone: Any, task: str) -> Any:
    import os

    from training.data.examples import read_examples
    from training.scoring.evaluation import tokenize_examples
    from training.task.task_file import load_task_file

    file = load_task_file(Path(f"examples/tasks/{task}.yaml"), variables=os.environ)
    examples = read_examples(Path(file.data.train), file).examples[:MAX_ROWS]
    return file, tokenize_examples(backbone, file.spec, examples)


def _round(number: int, steps: int, count: int) -> list[int]:
    """The rows of a round, the next ones of each round after it."""
    size = steps * BATCH_SIZE
    return [i % count for i in range(number * size, (number + 1) * size)]


def superpos_trainer(
    folder: Path, task: str, *, slots: int, precision: "Precision" = "fp32", device: str = "cpu"
) -> Train:
    """Return the function that trains `slots` prompts in one stack: from a round and its steps to seconds and rows."""
    from backbone import load
    from training.config.arguments import TrainArguments
    from training.loop.job import TrainingJob
    from training.loop.train import train_stack
    from training.methods.factory import make_method
    from training.scoring.evaluation import TokenizedRows

    backbone = load(str(folder), cache_dir=folder.parent, precision=precision, device=device)
    file, rows = _rows(backbone, task)
    trie = backbone.label_trie(file.spec.label_words)

    def some(indices: list[int]) -> TokenizedRows:
        return TokenizedRows(tuple(rows.token_ids[i] for i in indices), rows.labels[indices], 0)

    def train(number: int, steps: int) -> dict[str, float]:
        wanted = _round(number, steps, len(rows))
        stack = []
        for seed in range(slots):
            arguments = TrainArguments(method="simple", epochs=1, lr=LR, batch_size=BATCH_SIZE, seed=seed)
            method = make_method(arguments, backbone.weights.embedding)
            stack.append(
                TrainingJob(
                    method=method, arguments=arguments, trie=trie, rows=some(wanted), selection=some(wanted[:1])
                )
            )
        started = time.perf_counter()
        train_stack(backbone, stack)
        return {"seconds": time.perf_counter() - started, "rows": slots * len(wanted)}

    return train


def _peft(folder: Path, task: str, *, grouped: bool = False, bf16: bool = False) -> Train:
    """PEFT's prompt tuning under the Hugging Face Trainer, as its documentation has it; dropout off as in ours.

    In bf16 the frozen weights are loaded in bf16 and the Trainer's autocast is on; PEFT keeps the prompt in float32.
    """
    import torch
    from peft import PromptTuningConfig, TaskType, get_peft_model
    from transformers import (
        AutoTokenizer,
        DataCollatorForSeq2Seq,
        Seq2SeqTrainer,
        Seq2SeqTrainingArguments,
        T5ForConditionalGeneration,
        TrainerCallback,
    )

    from backbone import load

    file, rows = _rows(load(str(folder), cache_dir=folder.parent), task)
    dtype = torch.bfloat16 if bf16 else torch.float32
    model = T5ForConditionalGeneration.from_pretrained(folder, dtype=dtype, dropout_rate=0.0)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    config = PromptTuningConfig(
        task_type=TaskType.SEQ_2_SEQ_LM, num_virtual_tokens=PROMPT_LENGTH, num_transformer_submodules=1
    )
    model = get_peft_model(model, config)
    words = [tokenizer(words).input_ids for words in file.spec.label_words]

    class Clock(TrainerCallback):
        """The time of the steps, without what comes before and after them."""

        def on_train_begin(self, *args: object, **kwargs: object) -> None:
            self.started = time.perf_counter()

        def on_train_end(self, *args: object, **kwargs: object) -> None:
            self.seconds = time.perf_counter() - self.started

    def train(number: int, steps: int) -> dict[str, float]:
        wanted = _round(number, steps, len(rows))
        dataset = [{"input_ids": list(rows.token_ids[i]), "labels": words[rows.labels[i]]} for i in wanted]
        clock = Clock()
        with tempfile.TemporaryDirectory() as scratch:
            arguments = Seq2SeqTrainingArguments(
                output_dir=scratch,
                per_device_train_batch_size=BATCH_SIZE,
                num_train_epochs=1,
                learning_rate=LR,
                lr_scheduler_type="constant",
                train_sampling_strategy="group_by_length" if grouped else "random",
                logging_strategy="no",
                save_strategy="no",
                report_to=[],
                use_cpu=True,
                bf16=bf16,
                disable_tqdm=True,
                dataloader_pin_memory=False,
            )
            Seq2SeqTrainer(
                model=model,
                args=arguments,
                train_dataset=cast(Any, dataset),
                data_collator=DataCollatorForSeq2Seq(tokenizer, model=model),
                callbacks=[clock],
            ).train()
        return {"seconds": clock.seconds, "rows": len(wanted)}

    return train


if __name__ == "__main__":
    main(*sys.argv[1:])
