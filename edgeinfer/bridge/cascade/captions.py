"""From captions to token ids: a fixed vocabulary of words, or CLIP's byte pairs."""

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgeinfer._extras import need
from edgeinfer.network.files import read_json


class Tokenizer(Protocol):
    """What turns captions into ids.

    Attributes
    ----------
    length : int
        L.
    shortest : str
        The shortest caption it takes.
    """

    length: int
    shortest: str

    def __call__(self, captions: Sequence[str]) -> NDArray[np.int64]:
        """Ids, (B, L)."""


class Words:
    """Words of a fixed vocabulary, padded to one length.

    Where the vocabulary is in lower case, upper case and the punctuation around a word make no difference.

    Parameters
    ----------
    words : dict of str to int
    length : int
        L; longer captions are refused.
    pad : int

    Examples
    --------
    >>> Words({"a": 1, "circle": 2}, 4, 0)(["a circle"])
    array([[1, 2, 0, 0]])
    >>> Words({"a": 1, "circle": 2}, 4, 0)(["A circle."])
    array([[1, 2, 0, 0]])
    >>> Words({"a": 1, "circle": 2, "blue": 3}, 4, 0)(["a circel"])
    Traceback (most recent call last):
    ...
    ValueError: captions[0] = 'a circel': word 'circel' is not in the vocabulary; nearest are 'circle', 'blue', 'a'
    """

    def __init__(self, words: dict[str, int], length: int, pad: int) -> None:
        self.words, self.length, self.pad = words, length, pad
        self.shortest = min((word for word in words if words[word] != pad and word), key=len)
        self._folded = all(word == word.lower() for word in words)

    def __call__(self, captions: Sequence[str]) -> NDArray[np.int64]:
        """Ids, (B, L)."""
        ids = np.full((len(captions), self.length), self.pad, np.int64)
        for i, caption in enumerate(captions):
            words = [word for part in caption.split() if (word := self._word(part))]
            if not 1 <= len(words) <= self.length:
                raise ValueError(f"captions[{i}] = {caption!r}: must have 1 to {self.length} words")
            for k, word in enumerate(words):
                if word not in self.words:
                    known = [name for name in self.words if name and self.words[name] != self.pad]
                    nearest = ", ".join(map(repr, get_close_matches(word, known, n=3, cutoff=0.0)))
                    text = f"word {word!r} is not in the vocabulary; nearest are {nearest}"
                    raise ValueError(f"captions[{i}] = {caption!r}: {text}")
                ids[i, k] = self.words[word]
        return ids

    def _word(self, text: str) -> str:
        """A word as the vocabulary may have it."""
        if text in self.words or not self._folded:
            return text
        edges = [number for number, letter in enumerate(text) if letter.isalnum()]
        return text[edges[0] : edges[-1] + 1].lower() if edges else ""


class BytePairs:
    """CLIP's tokenizer from the files of a Stable Diffusion folder; longer captions are cut.

    Parameters
    ----------
    folder : Path
        With tokenizer.json, or vocab.json and merges.txt.
    length : int
        L.
    """

    def __init__(self, folder: Path, length: int) -> None:
        self.length, self.shortest = length, ""
        library = need("tokenizers", "bridge")
        if (folder / "tokenizer.json").is_file():
            try:
                self._tokenizer = library.Tokenizer.from_file(str(folder / "tokenizer.json"))
            except Exception as error:  # the library raises bare Exception
                raise ValueError(f"tokenizer/tokenizer.json: {error}") from error
        else:
            self._tokenizer = _clip(library, folder)
        config: dict[str, Any] = {}
        if (folder / "tokenizer_config.json").is_file():
            config = read_json(folder, "tokenizer_config.json")
        pad = config.get("pad_token", "<|endoftext|>")
        pad = pad.get("content") if isinstance(pad, dict) else pad
        identifier = self._tokenizer.token_to_id(pad)
        if identifier is None:
            raise ValueError(f"tokenizer/tokenizer_config.json: pad_token = {pad!r}: must be in the vocabulary")
        self._tokenizer.enable_padding(pad_id=identifier, pad_token=pad, length=length)
        self._tokenizer.enable_truncation(length)

    def __call__(self, captions: Sequence[str]) -> NDArray[np.int64]:
        """Ids, (B, L)."""
        encoded = self._tokenizer.encode_batch(list(captions))
        return np.array([item.ids for item in encoded], np.int64)


def _clip(library: Any, folder: Path) -> Any:
    for name in ("vocab.json", "merges.txt"):
        if not (folder / name).is_file():
            raise ValueError(f"tokenizer/{name}: missing, and no tokenizer.json")
    start, end = "<|startoftext|>", "<|endoftext|>"
    try:
        model = library.models.BPE.from_file(
            str(folder / "vocab.json"), str(folder / "merges.txt"), unk_token=end, end_of_word_suffix="</w>"
        )
    except Exception as error:  # the library raises bare Exception
        raise ValueError(f"tokenizer/vocab.json, merges.txt: {error}") from error
    tokenizer = library.Tokenizer(model)
    normalizers, before = library.normalizers, library.pre_tokenizers
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(library.Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    pattern = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
    tokenizer.pre_tokenizer = before.Sequence(
        [before.Split(library.Regex(pattern), "removed", invert=True), before.ByteLevel(add_prefix_space=False)]
    )
    identifiers = {token: tokenizer.token_to_id(token) for token in (start, end)}
    for token, identifier in identifiers.items():
        if identifier is None:
            raise ValueError(f"tokenizer/vocab.json: {token!r} is missing")
    tokenizer.post_processor = library.processors.RobertaProcessing(
        (end, identifiers[end]), (start, identifiers[start]), trim_offsets=False, add_prefix_space=False
    )
    return tokenizer


def read_tokenizer(root: Path, name: str, length: int | None) -> Tokenizer:
    """The tokenizer of a folder.

    Parameters
    ----------
    root : Path
        The model's folder.
    name : str
        The tokenizer's, below it.
    length : int or None
        L, where the text encoder fixes it.

    Returns
    -------
    Words or BytePairs

    Raises
    ------
    ValueError
        Naming file and field.
    """
    file = f"{name}/vocab.json"
    one_file = (root / name / "tokenizer.json").is_file() and not (root / file).exists()
    vocabulary = {} if one_file else read_json(root, file)
    if "words" not in vocabulary:
        return BytePairs(root / name, length or _maximum(root, name))
    words, pad = vocabulary["words"], vocabulary.get("pad")
    if not isinstance(words, dict) or not words or not all(_is_id(value) for value in words.values()):
        raise ValueError(f"{file}: words: must map each word to an id, a whole number >= 0")
    if len(set(words.values())) != len(words):
        raise ValueError(f"{file}: words: ids must differ")
    if pad is None or not _is_id(pad) or not any(word and words[word] != pad for word in words):
        raise ValueError(f"{file}: pad = {pad!r}: must be an id, a whole number >= 0, not every word's")
    return Words(words, vocabulary["length"], pad)


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _maximum(root: Path, name: str) -> int:
    length = read_json(root, "text_encoder/config.json").get("max_position_embeddings")
    if not _is_id(length) or not length:
        raise ValueError(f"text_encoder/config.json: max_position_embeddings = {length!r}: must be a whole number > 0")
    return int(length)
