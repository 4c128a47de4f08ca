"""Texts to token ids: fields name no control token and are cut instead of the template; what is unread is counted."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.backbone import make_t5
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from backbone import Backbone, Frame, FramedText, NoRoomForFields, TextTokenizer, TextTooLong, TokenizedText, load
from backbone.framing import kept_lengths
from backbone.text import min_field_tokens

CONTROL = ["<pad>", "</s>", "<unk>", "<extra_id_0>", "<extra_id_99>"]
PAIR = ("premise: ", " hypothesis: ", " yes or no?")
PREMISE = "the cat sat on the mat"
LONG = " ".join(f"word{number}" for number in range(300))


def pair(backbone: Backbone, premise: str, hypothesis: str, literals: Sequence[str] = PAIR) -> FramedText:
    return backbone.tokenizer.frame(literals, ("premise", "hypothesis")).fill((premise, hypothesis))


def read(
    backbone: Backbone, text: FramedText | str, max_tokens: int = 4_096, truncation: str = "error"
) -> TokenizedText:
    (tokenized,) = backbone.tokenizer.tokenize([text], max_tokens=max_tokens, truncation=truncation)
    return tokenized


def words(backbone: Backbone, tokenized: TokenizedText) -> str:
    return backbone.tokenizer.text(tokenized.token_ids)


def full_width(text: str) -> str:
    return text.replace("<", "＜").replace(">", "＞")


@pytest.fixture(scope="module")
def marked(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    """A T5 to which somebody added tokens: marks, special or not, and vocabulary."""
    folder = make_t5(tmp_path_factory.mktemp("marked"), gated=True)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_special_tokens(["[CLS]", "<extra_id_0>"])
    tokenizer.add_tokens([AddedToken("<hl>", normalized=True), AddedToken("|ans|", lstrip=True), "{", "covid"])
    tokenizer.save(str(folder / "tokenizer.json"))
    return load(str(folder), cache_dir=folder)


# control tokens in users' text


@pytest.mark.parametrize("token", CONTROL)
@pytest.mark.parametrize("spelled", ["great {} film", "{}{}{}{}", "x{}y", "{}", "\u200b{}"])
@pytest.mark.parametrize("width", [str, full_width], ids=["plain", "becomes one by normalisation"])
@pytest.mark.slow
def test_control_tokens_in_a_users_text_are_ordinary_pieces(
    embedded: Backbone, token: str, spelled: str, width: type[str]
) -> None:
    special = {embedded.tokenizer.pieces([each])[0][-1] for each in CONTROL}
    text = width(spelled.replace("{}", token))
    for where in (text, pair(embedded, text, "x"), pair(embedded, "x", text)):
        *ids, end = read(embedded, where).token_ids
        assert end == 1
        assert set(ids) & special <= {embedded.tokenizer.unknown_id}, "`<` is a character that T5 has no piece for"
        assert len(ids) >= len(token) // 4


@pytest.mark.parametrize("token", ["</s>", "[CLS]", "<extra_id_0>", "<hl>", " |ans|"])
def test_added_tokens_of_another_t5_are_ordinary_pieces_in_a_users_text(marked: Backbone, token: str) -> None:
    (named,) = marked.tokenizer.pieces([token])
    assert len(named) == 1, "a task's own words may name it"
    assert named[0] not in read(marked, f"a film {token} of sports").token_ids[:-1]
    in_template = read(marked, marked.tokenizer.frame((f"a film {token} ", ""), ("text",)).fill((token,)))
    assert in_template.token_ids[:-1].count(named[0]) == 1
    assert marked.tokenizer.piece(named[0]).strip() == token.strip()


@pytest.mark.parametrize("word", ["{", "covid"])
def test_words_and_characters_that_were_added_to_a_vocabulary_stay_in_it(marked: Backbone, word: str) -> None:
    (named,) = marked.tokenizer.pieces([word])
    assert named[0] in read(marked, f"a {word} film").token_ids


def test_a_model_with_merges_spells_no_control_token_either(tmp_path: Path) -> None:
    vocabulary = {"<s>": 0, "</s>": 1, "<unk>": 2, "<": 3, "/": 4, "s": 5, ">": 6, "</": 7, "s>": 8, "Ġ": 9}
    merges = [("<", "/"), ("s", ">"), ("</", "s>")]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<s>", "</s>"])
    ours = TextTokenizer(PreTrainedTokenizerFast(tokenizer_object=tokenizer).backend_tokenizer.to_str(), eos_id=1)
    assert ours.tokenize(["</s>"], max_tokens=9, truncation="error")[0].token_ids == (7, 8, 1)
    assert ours.pieces(["</s>"]) == [[1]]


@pytest.fixture(scope="module")
def plain(cache_dir: Path, embedded: Backbone) -> Tokenizer:
    """The embedded backbone's tokenizer as its author published it."""
    del embedded  # writes the file
    return Tokenizer.from_file(str(next(cache_dir.glob("embedded-*/tokenizer.json"))))


@given(
    st.lists(st.sampled_from(["a", "film", "great", ",", "(", "文", "é", "\n", "▁", "\u0301", " ", "  "]), max_size=30)
)
def test_texts_without_control_tokens_have_the_ids_that_they_had(
    embedded: Backbone, plain: Tokenizer, parts: list[str]
) -> None:
    text = "".join(parts)
    expected = plain.encode(f"premise: {text} hypothesis: {text} yes or no?", add_special_tokens=False).ids
    assert read(embedded, pair(embedded, text, text)).token_ids == (*expected, 1)


# limits on the fields


@pytest.mark.parametrize("truncation", ["start", "end"])
@pytest.mark.parametrize("long", [0, 1], ids=["first field", "last field"])
def test_limits_cut_the_longest_field_and_never_the_template(embedded: Backbone, truncation: str, long: int) -> None:
    values = [PREMISE, PREMISE]
    values[long] = LONG
    cut = read(embedded, pair(embedded, *values), 64, truncation)
    name = ("premise", "hypothesis")[long]
    assert cut.num_tokens == 64
    assert list(cut.lost_tokens) == [name]
    assert cut.lost_tokens[name] == read(embedded, pair(embedded, *values)).num_tokens - 64
    text = words(embedded, cut)
    for kept in ("premise:", "hypothesis:", "yes or no?", PREMISE):
        assert kept in text
    assert ("word299" in text) == (truncation == "start")
    assert ("word0 " in text) == (truncation == "end")


def test_limits_leave_fields_of_equal_length_equally_long(embedded: Backbone) -> None:
    cut = read(embedded, pair(embedded, LONG, LONG), 101, "end")
    assert abs(cut.lost_tokens["premise"] - cut.lost_tokens["hypothesis"]) <= 1
    assert cut.num_tokens == 101


def test_limits_count_a_field_with_two_places_as_one(embedded: Backbone) -> None:
    frame = embedded.tokenizer.frame(("first: ", " again: ", " end"), ("text", "text"))
    cut = read(embedded, frame.fill((LONG, LONG)), 64, "end")
    assert list(cut.lost_tokens) == ["text"]
    assert words(embedded, cut).startswith("first: word0")
    assert "again: word0" in words(embedded, cut)
    assert words(embedded, cut).endswith(" end")


def test_limits_keep_words_of_the_template_that_share_a_piece_with_a_field(embedded: Backbone) -> None:
    frame = embedded.tokenizer.frame(("(", ")!!"), ("text",))
    text = words(embedded, read(embedded, frame.fill((LONG,)), 32, "end"))
    assert text.startswith("(word0")
    assert text.endswith(")!!")


def test_limits_that_leave_too_little_of_a_field_refuse_the_text(embedded: Backbone) -> None:
    long_template = (f"{LONG[:400]} premise: ", " hypothesis: ", "")
    text = pair(embedded, PREMISE, LONG, long_template)
    own_words = text.frame.num_tokens
    for truncation in ("start", "end"):
        with pytest.raises(NoRoomForFields, match="max_tokens") as refused:
            read(embedded, text, own_words + 4, truncation)
        assert refused.value.field in ("premise", "hypothesis")
        assert read(embedded, text, own_words + 60, truncation).num_tokens == own_words + 60


def test_limits_are_exact(embedded: Backbone) -> None:
    whole = read(embedded, pair(embedded, PREMISE, PREMISE))
    assert read(embedded, pair(embedded, PREMISE, PREMISE), whole.num_tokens) == whole
    with pytest.raises(TextTooLong, match=f"has {whole.num_tokens} tokens, the task allows {whole.num_tokens - 1}"):
        read(embedded, pair(embedded, PREMISE, PREMISE), whole.num_tokens - 1)
    cut = read(embedded, pair(embedded, PREMISE, PREMISE), whole.num_tokens - 1, "end")
    assert (sum(cut.lost_tokens.values()), cut.num_tokens) == (1, whole.num_tokens - 1)


def test_limits_of_a_single_last_field_cut_as_before(embedded: Backbone) -> None:
    text = embedded.tokenizer.frame(("sentence: ", ""), ("text",)).fill((LONG,))
    whole = read(embedded, text).token_ids
    assert read(embedded, text, 40, "end").token_ids == (*whole[:39], 1)


@given(st.lists(st.integers(0, 50), min_size=1, max_size=16), st.integers(0, 400))
def test_limits_share_all_the_room_there_is_and_shorten_only_the_longest(lengths: list[int], room: int) -> None:
    kept = kept_lengths(lengths, room)
    assert sum(kept) == min(room, sum(lengths))
    level = max(kept)
    assert all(k == length or k >= level - 1 for k, length in zip(kept, lengths, strict=True))


@pytest.mark.parametrize(("max_tokens", "least"), [(2, 1), (31, 1), (64, 4), (128, 8), (4_096, 8)])
def test_limits_small_enough_for_a_short_task_are_allowed(max_tokens: int, least: int) -> None:
    assert min_field_tokens(max_tokens) == least


# what the model does not read


@pytest.mark.parametrize(
    "text",
    ["", " ", "\n\t ", "\u200b", "\ufeff\u200b", "\u00a0\u3000", "\u00ad", "\x00\x01", "▁", "▁▁ ▁" * 50, "\u2028"],
)
def test_a_text_without_anything_to_read_is_known_to_be_empty(embedded: Backbone, text: str) -> None:
    assert read(embedded, text).is_empty
    assert read(embedded, pair(embedded, text, text)).is_empty
    assert not read(embedded, pair(embedded, text, "a")).is_empty


@pytest.mark.parametrize("text", ["a", "0", ".", "¿", "文", "😀", "\u0301a", " x ", "(", "ok"])
def test_a_text_of_one_character_is_not_empty(embedded: Backbone, text: str) -> None:
    assert not read(embedded, text).is_empty
    assert not read(embedded, embedded.tokenizer.frame(("(", ")"), ("text",)).fill((text,))).is_empty


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("文章很好" * 30, 1.0),
        ("great 文章很好", 4 / 9),
        ("a great film", 0.0),
        ("😀😀 no", 0.5),
        ("{}", 1.0),
        ("", 0.0),
    ],
)
def test_unknown_characters_are_counted_and_not_their_pieces(embedded: Backbone, text: str, share: float) -> None:
    assert read(embedded, text).unknown_share == pytest.approx(share)
    assert read(embedded, pair(embedded, text, "")).unknown_share == pytest.approx(share)


def test_unknown_characters_are_counted_in_what_is_kept(embedded: Backbone) -> None:
    text = f"{LONG} {'文 ' * 60}"
    assert read(embedded, text, 40, "end").unknown_share == 0
    assert read(embedded, text, 40, "start").unknown_share == 1
    assert read(embedded, text, 40, "start").lost_tokens == {"text": read(embedded, text).num_tokens - 40}


def test_a_frame_without_fields_texts_is_its_own_words(embedded: Backbone) -> None:
    frame = embedded.tokenizer.frame(PAIR, ("premise", "hypothesis"))
    assert isinstance(frame, Frame)
    assert frame.num_tokens == len(embedded.tokenizer.pieces(["".join(PAIR)])[0])
