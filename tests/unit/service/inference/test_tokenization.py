"""Tokenization off the event loop: the same ids, in fair turns, and nobody's error is another's."""

import asyncio
import threading
from collections.abc import Sequence

import pytest

from backbone import PLAIN, Backbone, FramedText, TextTokenizer, TextTooLong, TokenizedText
from service.inference.tokenization import Tokenization

SMALL = "a gripping film"
LONG = "the world of sports and business " * 20


class Held(TextTokenizer):
    """A tokenizer that can be made to stand still, and tells what it was given at once."""

    def __init__(self, backbone: Backbone) -> None:
        vars(self).update(vars(backbone.tokenizer))
        self.calls: list[list[str]] = []
        self.begun, self.go_on = threading.Event(), threading.Event()

    def ids(self, texts: Sequence[FramedText]) -> list[list[int]]:
        self.calls.append([text.text for text in texts])
        self.begun.set()
        assert self.go_on.wait(30)
        return super().ids(texts)


def framed(texts: Sequence[str]) -> list[FramedText]:
    return [PLAIN.fill((text,)) for text in texts]


async def begun(held: Held) -> None:
    await asyncio.to_thread(held.begun.wait, 30)
    await asyncio.sleep(0)


@pytest.mark.parametrize("inline_chars", [0, 10_000])
@pytest.mark.parametrize("max_batch_chars", [1, 700, 65_536])
def test_batches_give_what_the_tokenizer_gives(tiny: Backbone, inline_chars: int, max_batch_chars: int) -> None:
    requests = [[SMALL, LONG], [LONG + "x"] * 5, ["one"], ["two", "", "three"]]
    tokenization = Tokenization(tiny.tokenizer, inline_chars=inline_chars, max_batch_chars=max_batch_chars)

    async def ask() -> list[object]:
        asked = (tokenization.tokenize(framed(texts), max_tokens=64, truncation="end") for texts in requests)
        return await asyncio.gather(*asked)

    expected = [tiny.tokenizer.tokenize(texts, max_tokens=64, truncation="end") for texts in requests]
    assert asyncio.run(ask()) == expected


def test_texts_that_arrive_meanwhile_are_the_next_batch(tiny: Backbone) -> None:
    held = Held(tiny)

    async def ask() -> None:
        tokenization = Tokenization(held, inline_chars=0)
        first = asyncio.create_task(tokenization.tokenize(framed([SMALL]), max_tokens=64, truncation="error"))
        await begun(held)
        later = [
            asyncio.create_task(tokenization.tokenize(framed([f"text {i}"]), max_tokens=64, truncation="error"))
            for i in range(5)
        ]
        await asyncio.sleep(0)
        held.go_on.set()
        await asyncio.gather(first, *later)

    asyncio.run(ask())
    assert held.calls == [[SMALL], [f"text {i}" for i in range(5)]]


def test_a_caller_who_left_is_skipped(tiny: Backbone) -> None:
    held = Held(tiny)

    async def ask() -> None:
        tokenization = Tokenization(held, inline_chars=0)
        first, gone, last = (
            asyncio.create_task(tokenization.tokenize(framed([text]), max_tokens=64, truncation="error"))
            for text in ("first", "gone", "last")
        )
        await asyncio.sleep(0)
        gone.cancel()
        held.go_on.set()
        await asyncio.gather(first, last)
        assert gone.cancelled()

    asyncio.run(ask())
    assert [text for call in held.calls for text in call] == ["first", "last"]


def test_a_huge_request_goes_on_behind_those_that_came_after_it(tiny: Backbone) -> None:
    held = Held(tiny)

    async def ask() -> None:
        tokenization = Tokenization(held, inline_chars=0, max_batch_chars=len(LONG))
        huge = asyncio.create_task(tokenization.tokenize(framed([LONG] * 4), max_tokens=10_000, truncation="error"))
        await begun(held)
        small = asyncio.create_task(tokenization.tokenize(framed([SMALL]), max_tokens=64, truncation="error"))
        await asyncio.sleep(0)
        held.go_on.set()
        assert len(await small) == 1
        assert not huge.done()
        assert len(await huge) == 4

    asyncio.run(ask())
    assert held.calls == [[LONG], [SMALL], [LONG], [LONG], [LONG]]


def test_a_text_that_is_too_long_is_its_own_requests_error_and_named_by_its_place(tiny: Backbone) -> None:
    async def ask() -> list[object]:
        tokenization = Tokenization(tiny.tokenizer, inline_chars=0, max_batch_chars=40)
        return await asyncio.gather(
            tokenization.tokenize(framed([SMALL, SMALL, SMALL, LONG]), max_tokens=64, truncation="error"),
            tokenization.tokenize(framed([SMALL]), max_tokens=64, truncation="error"),
            return_exceptions=True,
        )

    refused, answered = asyncio.run(ask())
    assert isinstance(refused, TextTooLong)
    assert refused.index == 3
    assert answered == tiny.tokenizer.tokenize([SMALL], max_tokens=64, truncation="error")


@pytest.mark.parametrize("method", ["ids", "fit"])
def test_a_tokenizer_that_breaks_leaves_nobody_waiting_and_is_asked_again(tiny: Backbone, method: str) -> None:
    class Broken(Held):
        def ids(self, texts: Sequence[FramedText]) -> list[list[int]]:
            if method == "ids" and "bad" in [text.text for text in texts]:
                raise RuntimeError("broken by this test")
            return super().ids(texts)

        def fit(self, index: int, text: FramedText, *rest: object) -> TokenizedText:
            if method == "fit" and text.text == "bad":
                raise RuntimeError("broken by this test")
            return super().fit(index, text, *rest)

    broken = Broken(tiny)
    broken.go_on.set()

    async def ask() -> object:
        tokenization = Tokenization(broken, inline_chars=0)
        with pytest.raises(RuntimeError, match="broken by this test"):
            await tokenization.tokenize(framed(["bad"]), max_tokens=64, truncation="error")
        return await tokenization.tokenize(framed([SMALL]), max_tokens=64, truncation="error")

    assert asyncio.run(ask()) == tiny.tokenizer.tokenize([SMALL], max_tokens=64, truncation="error")
