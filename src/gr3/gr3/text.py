"""Words to tokens and back; the same file in training and deployment."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

PAD, UNKNOWN, END = "<|endoftext|>", "<|unknown|>", "<|im_end|>"
VISION_START, VISION_END = "<|vision_start|>", "<|vision_end|>"
ABSENT = "<|absent|>"
BINS = 64
"""Places along one side of a picture, or along an axis of the workspace, that location tokens tell apart."""

SPECIAL = (PAD, UNKNOWN, END, VISION_START, VISION_END, ABSENT, *(f"<|{i}|>" for i in range(BINS)))

_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789'-,.?!#"
_WORD = re.compile(r"\w+|[^\w\s]+")
"""What the pre-tokenizer splits into."""
_SPECIAL = re.compile(r"<\|.*?\|>")


def place(fraction: float) -> str:
    """The location token of a fraction in [0, 1]; outside it is clipped."""
    return f"<|{min(max(int(fraction * BINS), 0), BINS - 1)}|>"


class Text:
    """A tokenizer with the special tokens that GR-3 needs.

    Attributes:
        marks: ids of the tokens before and after a picture.
        size: rows the embedding needs.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Wrap a tokenizer.

        Raises:
            ValueError: it lacks a special token; names it.
        """
        wanted = (PAD, END, VISION_START, VISION_END)
        found = {name: tokenizer.token_to_id(name) for name in wanted}
        ids = {name: number for name, number in found.items() if number is not None}
        missing = [name for name in wanted if name not in ids]
        if missing:
            raise ValueError(f"the tokenizer has no {', '.join(missing)}: it was not made for this model")
        self._tokenizer = tokenizer
        self.pad, self.end = ids[PAD], ids[END]
        self.marks = (ids[VISION_START], ids[VISION_END])
        self.size = tokenizer.get_vocab_size()
        self._cache: dict[str, tuple[int, ...]] = {}

    @classmethod
    def load(cls, path: Path) -> Text:
        """From a `tokenizer.json`.

        Raises:
            ValueError: there is none, or it is not one.
        """
        if not path.is_file():
            raise ValueError(f"{path} is missing: the checkpoint needs the tokenizer that it was trained with")
        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises a bare Exception
            raise ValueError(f"{path} is no tokenizer: {error}") from None
        return cls(tokenizer)

    @classmethod
    def build(cls, corpus: Iterable[str]) -> Text:
        """A tokenizer of a corpus: lower case, one token per word it has, letters for other words.

        The same for the same set of words, whatever their order or number (a trained one breaks ties at random).
        """
        words = {word for text in corpus for word in _WORD.findall(_SPECIAL.sub(" ", text.lower()))}
        pieces = sorted(words | set(_LETTERS)) + [f"##{letter}" for letter in _LETTERS]
        vocabulary = {piece: i for i, piece in enumerate([*SPECIAL, *pieces])}
        tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=UNKNOWN))
        tokenizer.add_special_tokens(list(SPECIAL))
        tokenizer.normalizer = normalizers.Lowercase()
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        tokenizer.decoder = decoders.WordPiece()
        return cls(tokenizer)

    def blur(self, width: float) -> NDArray[np.float32]:
        """(size, size) for each token what to learn in its place: itself, or for a place also the places beside it.

        Cross entropy alone does not know that places are near one another; `width`: standard deviation in places.
        """
        targets = np.eye(self.size, dtype=np.float32)
        at = [self.ids(f"<|{i}|>")[0] for i in range(BINS)]
        apart = np.subtract.outer(np.arange(BINS), np.arange(BINS)) / width
        near = np.exp(-0.5 * apart**2)
        targets[np.ix_(at, at)] = near / near.sum(1, keepdims=True)
        return targets

    def save(self, path: Path) -> None:
        """Write a `tokenizer.json`."""
        self._tokenizer.save(str(path))

    def ids(self, text: str) -> tuple[int, ...]:
        """Token ids of a text; special tokens in it become themselves."""
        found = self._cache.get(text)
        if found is None:
            if len(self._cache) > 100_000:
                self._cache.clear()
            found = self._cache[text] = tuple(self._tokenizer.encode(text, add_special_tokens=False).ids)
        return found

    def words(self, ids: Iterable[int]) -> str:
        """The text of token ids, special tokens included."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=False))

    def instruction(self, text: str, length: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """(length,) token ids of an instruction, padded on the right, and where they are no padding.

        Raises:
            ValueError: it has too many tokens, or none.
        """
        ids = (*self.ids(text.strip()), self.end)
        if len(ids) == 1:
            raise ValueError("the instruction is empty: say what to do, like 'put the apple into the basket'")
        if len(ids) > length:
            raise ValueError(
                f"the instruction {text!r} has {len(ids)} tokens, this model reads at most {length}: say it shorter"
            )
        padded = np.full(length, self.pad, dtype=np.int64)
        padded[: len(ids)] = np.array(ids, dtype=np.int64)
        return padded, np.arange(length) < len(ids)
