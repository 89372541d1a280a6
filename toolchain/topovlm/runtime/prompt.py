"""User text and a number of pictures -> token ids, without transformers.

The chat template of the checkpoint was reduced at export to three pieces (prefix, picture, suffix);
each picture stands for `tokens_per_image` copies of the image token.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from topovlm.errors import InputError, explain
from topovlm.runtime.manifest import Manifest


class Prompter:
    """Tokenises prompts and decodes answers of one exported folder."""

    def __init__(self, manifest: Manifest) -> None:
        from tokenizers import Tokenizer

        self.manifest = manifest
        try:
            self.tokenizer = Tokenizer.from_file(str(manifest.tokenizer_file))
        except Exception as error:  # the Rust side raises a bare Exception
            file = str(manifest.tokenizer_file)
            raise InputError(explain("tokenizer", file, f"cannot be read: {error}", "Export again")) from None
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()

    @cached_property
    def image_token(self) -> str:
        """The text of the image token. Raises `InputError` when the tokenizer has no such id."""
        token = self.tokenizer.id_to_token(self.manifest.image_token_id)
        if token is None:
            rule = "is not in the tokenizer"
            raise InputError(explain("image_token_id", self.manifest.image_token_id, rule, "Export again"))
        return token

    @cached_property
    def image_piece(self) -> str:
        """The text of one picture, its image token repeated as often as the picture has features."""
        piece, token = self.manifest.prompt_image, self.image_token
        if piece.count(token) == self.manifest.tokens_per_image:
            return piece
        if piece.count(token) != 1:
            rule = f"must hold {token} once, or {self.manifest.tokens_per_image} times"
            raise InputError(explain("prompt.image", piece, rule, "Export again"))
        return piece.replace(token, token * self.manifest.tokens_per_image)

    def text(self, prompt: str, images: int) -> str:
        """The whole prompt as text; pictures come before the words."""
        if self.image_token in prompt:
            rule = f"must not hold the image token {self.image_token}: pictures are given apart"
            raise InputError(explain("prompt", prompt, rule))
        return self.manifest.prompt_prefix + self.image_piece * images + prompt + self.manifest.prompt_suffix

    def encode(self, prompt: str, images: int) -> np.ndarray:
        """Token ids, int64 `[S]`."""
        encoded = self.tokenizer.encode(
            self.text(prompt, images), add_special_tokens=self.manifest.add_special_tokens
        )
        return np.asarray(encoded.ids, np.int64)

    def decode(self, token_ids: list[int]) -> str:
        """The answer's text, special tokens left out, blanks at the ends stripped."""
        return self.tokenizer.decode(token_ids, skip_special_tokens=True).strip()
