"""Text ↔ token numbers: bytes, or what a model's tokenizer.json says."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from tokenizers import Tokenizer as HuggingFaceTokenizer

from sw.models.llama_config import ModelError

__all__ = ["ByteTokenizer", "FileTokenizer", "TextStream", "Tokenizer", "open_tokenizer"]

_BYTES = 256
_NO_CHARACTER = "\ufffd"


class Tokenizer(Protocol):
    """What turns text into token numbers."""

    by_bytes: bool
    """Whether a token is a byte, so that models can be compared by bits per byte."""

    def encode(self, document: bytes) -> list[int]:
        """Return the tokens of a document, with what the model expects before it."""

    def decode(self, tokens: Sequence[int]) -> bytes:
        """Return the text of tokens, without marks of the beginning or end of a document."""


class ByteTokenizer:
    """Bytes are tokens; 0 begins a document."""

    by_bytes = True

    def encode(self, document: bytes) -> list[int]:
        """Return 0 and the bytes."""
        return [0, *document]

    def decode(self, tokens: Sequence[int]) -> bytes:
        """Return the bytes but zeros."""
        return bytes(tokens).replace(b"\0", b"")


class FileTokenizer:
    """A tokenizer.json of Hugging Face, run by the package `tokenizers`.

    Parameters
    ----------
    path : Path
    vocab : int
        Tokens that the model knows.

    Raises
    ------
    ModelError
        If the file is no tokenizer, or has tokens that the model does not know.
    """

    by_bytes = False

    def __init__(self, path: Path, vocab: int):
        try:
            self._tokenizer = HuggingFaceTokenizer.from_file(str(path))
        except Exception as error:      # the package raises Exception itself
            raise ModelError(f"{path} must be a tokenizer of Hugging Face: {error}") from None
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        largest = max(self._tokenizer.get_vocab(with_added_tokens=True).values(), default=0)
        if largest >= vocab:
            raise ModelError(f"{path} must have tokens below vocab_size of {vocab}, not {largest}")

    def encode(self, document: bytes) -> list[int]:
        """Return the tokens of UTF-8 text, with the special tokens that the file puts around it."""
        return list(self._tokenizer.encode(document.decode(errors="replace")).ids)

    def decode(self, tokens: Sequence[int]) -> bytes:
        """Return the text in UTF-8, without special tokens."""
        return str(self._tokenizer.decode(list(tokens), skip_special_tokens=True)).encode()


def open_tokenizer(folder: Path, vocab: int) -> Tokenizer:
    """Return the tokenizer of a model: its tokenizer.json, else bytes where it knows 256 tokens.

    Raises
    ------
    ModelError
        If there is neither, or the file is not the model's.
    """
    path = folder / "tokenizer.json"
    if path.is_file():
        return FileTokenizer(path, vocab)
    if vocab != _BYTES:
        raise ModelError(f"{folder} must hold tokenizer.json where vocab_size is not {_BYTES} (bytes), but is {vocab}")
    return ByteTokenizer()


class TextStream:
    """Text of tokens that come one by one; a character waits until all its tokens are there.

    Attributes
    ----------
    text : str
        What has been given out.
    """

    def __init__(self, tokenizer: Tokenizer):
        self._tokenizer = tokenizer
        self._tokens: list[int] = []
        self.text = ""

    def push(self, token: int) -> str:
        """Return the text that a token adds, which may be none."""
        self._tokens.append(token)
        return self._give(self._whole().rstrip(_NO_CHARACTER))

    def end(self) -> str:
        """Return what still waits, with \\ufffd for bytes that are no character."""
        return self._give(self._whole())

    def _whole(self) -> str:
        return self._tokenizer.decode(self._tokens).decode(errors="replace")

    def _give(self, whole: str) -> str:
        new = whole[len(self.text):]
        self.text += new
        return new
