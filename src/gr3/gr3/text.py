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

FINE = 4
"""Parts of such a place that labels tell apart: what is learned in place of a token says where in it the thing is."""

WHERE = "u v x y z u v u v u v"
"""What follows every instruction: slots, a token each, in which the model says at once where the things are that it
speaks of (`talk.whereabouts`): in reach of the DiT, which reads the instruction and nothing that is said to it."""

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
        """(labels, size) for each label what to learn in its place: the token, or for a place those beside it too.

        Cross entropy alone does not know that places are near one another; `width`: standard deviation in places. The
        labels after the tokens are those of `located`.
        """
        at = [self.ids(f"<|{i}|>")[0] for i in range(BINS)]
        middles = np.concatenate([np.arange(BINS), (np.arange(BINS * FINE) + 0.5) / FINE - 0.5])
        near = np.exp(-0.5 * (np.subtract.outer(middles, np.arange(BINS)) / width) ** 2)
        near /= near.sum(1, keepdims=True)
        targets = np.zeros((self.size + BINS * FINE, self.size), dtype=np.float32)
        targets[: self.size] = np.eye(self.size)
        targets[np.ix_([*at, *range(self.size, len(targets))], at)] = near
        return targets

    def located(self, fractions: NDArray[np.float64]) -> NDArray[np.int64]:
        """(n,) labels of places, fractions (n,) of a picture or the workspace; nan: not there. Beyond is the edge."""
        known = np.where(np.isfinite(fractions), fractions, 0.0)
        fine = np.clip((known * BINS * FINE).astype(np.int64), 0, BINS * FINE - 1)
        return np.where(np.isfinite(fractions), self.size + fine, self.ids(ABSENT)[0])

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
        """(length,) token ids of an instruction and its slots, padded on the right, and where they are no padding.

        Raises:
            ValueError: it has too many tokens, or none.
        """
        said, slots = self.ids(text.strip()), self.ids(WHERE)
        ids = (*said, self.end, *slots)
        if not said:
            raise ValueError("the instruction is empty: say what to do, like 'put the apple into the basket'")
        if len(ids) > length:
            raise ValueError(
                f"the instruction {text!r} has {len(said)} tokens, this model reads at most "
                f"{length - len(slots) - 1}: say it shorter"
            )
        padded = np.full(length, self.pad, dtype=np.int64)
        padded[: len(ids)] = np.array(ids, dtype=np.int64)
        return padded, np.arange(length) < len(ids)
