"""From messages to token ids: the only place where a chat template meets a tokenizer.

The template is rendered once with a private character in place of each message's content, then cut there, and the
pieces are tokenised apart. Three things follow. Text written by a user can never become a control token (its pieces
are tokenised with special tokens split). The answer's tokens are the same whether they are rendered for training or
sampled by a model. And which token is trained on is known from where it came from, never guessed from its id.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from bessemer.data.records import ImageRef, Message
from bessemer.errors import UserError

__all__ = ["Rendered", "Renderer"]

FIRST_PRIVATE = 0xE000  # the start of Unicode's private use area: no chat template writes these
PLAIN_TEMPLATE = (
    "{% if begins %}{{ bos_token }}{% endif %}"
    "{% for message in messages %}{{ message['role'] + ': ' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)


@dataclass(frozen=True)
class Rendered:
    """One sequence of tokens.

    ids: T token ids; answers: T flags, True where the token belongs to an assistant's answer or ends it (trained on);
    image_places: places in ids that visual tokens replace, in the order of `images`.
    """

    ids: tuple[int, ...]
    answers: tuple[bool, ...]
    image_places: tuple[int, ...]
    images: tuple[ImageRef, ...]


class Renderer:
    """Renders conversations and prompts for one tokenizer. Final.

    tokenizer: a transformers tokenizer; image_ids: the ids that stand for one image, given its reference;
    image_token: what the template itself writes for an image, if it does: the ids then take its place, and else stand
    before the message's text. end_id: the token that closes an answer; special: those that are no text.
    """

    def __init__(
        self,
        tokenizer: Any,
        image_ids: Callable[[ImageRef], Sequence[int]] | None = None,
        system_prompt: str | None = None,
        image_token: str | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self.image_ids = image_ids
        self.system_prompt = system_prompt
        self.image_token = image_token or None
        self.template = tokenizer.chat_template or PLAIN_TEMPLATE
        # whether this tokenizer begins every text by a token of its own, without which such a model is lost
        self.begins = tokenizer.bos_token_id is not None and list(tokenizer("")["input_ids"])[:1] == [
            tokenizer.bos_token_id
        ]
        self.shows_images = image_token is not None and "image" in self.template
        self.parts = self.shows_images or not self._reads_text()
        self.trimmed = self._trimmed()
        # some tokenizers name their turn's end nowhere but among the added tokens
        flagged = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
        self.special = frozenset(flagged | set(tokenizer.all_special_ids))
        self.end_id = self._end_id()

    @property
    def template_hash(self) -> str:
        """sha256 of everything that turns messages into text."""
        return hashlib.sha256(f"{self.template}\0{self.system_prompt}".encode()).hexdigest()

    def prompt(self, messages: Sequence[Message]) -> Rendered:
        """Render messages up to where the assistant starts to answer."""
        return self._render(messages, generate=True)

    def conversation(self, messages: Sequence[Message], cutoff: int) -> Rendered:
        """Render a conversation whose assistant turns are trained on.

        One longer than `cutoff` tokens is cut at its end; one whose answers are all beyond the cut is an error.
        """
        rendered = self._render(messages, generate=False)
        if len(rendered.ids) > cutoff:
            if any(place >= cutoff for place in rendered.image_places):
                raise UserError(f"an image lies beyond cutoff_len={cutoff} tokens; raise cutoff_len")
            rendered = Rendered(
                rendered.ids[:cutoff], rendered.answers[:cutoff], rendered.image_places, rendered.images
            )
        if not any(rendered.answers):
            raise UserError(f"no answer within cutoff_len={cutoff} tokens; raise cutoff_len or drop the record")
        # What follows the last trained token teaches nothing.
        last = max(place for place, answer in enumerate(rendered.answers) if answer)
        places = tuple(place for place in rendered.image_places if place < last)
        images, held = [], 0
        for image in rendered.images:
            held += len(self.image_ids(image)) if self.image_ids is not None else 0
            images.extend([image] * (held <= len(places)))
        return Rendered(rendered.ids[: last + 1], rendered.answers[: last + 1], places, tuple(images))

    def answer_ids(self, text: str, ended: bool = True, limit: int | None = None) -> list[int]:
        """Token ids of an answer, closed by the end token unless it was cut off."""
        ids = self._encode(text, special=False)
        if limit is not None and len(ids) > limit:
            return ids[:limit]
        return [*ids, self.end_id] if ended else ids

    def document_ids(self, text: str, limit: int) -> list[int]:
        """Token ids of a text that is no conversation, at most `limit`."""
        first = [self.tokenizer.bos_token_id] if self.begins else []
        return [*first, *self._encode(text, special=False)][:limit]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of an answer's tokens, without the end token."""
        text: str = self.tokenizer.decode(list(ids), skip_special_tokens=True)
        return text.strip()

    def _end_id(self) -> int:
        """The token that closes an assistant's turn in this template."""
        probe = [Message("user", "?"), Message("assistant", "!")]
        text, marks = self._template_text(probe, generate=False)
        after = text.split(marks[-1], 1)[1]
        ids = self._encode(after.lstrip(), special=True)
        if ids and ids[0] in self.special:
            return ids[0]
        if self.tokenizer.eos_token_id is None:
            raise UserError(
                "the chat template closes no turn and the tokenizer has no eos token: answers could not end"
            )
        return int(self.tokenizer.eos_token_id)

    def _reads_text(self) -> bool:
        """Whether a message's content may be plain text; some templates of vision-language models want parts."""
        mark = chr(FIRST_PRIVATE)
        return mark in self._write([{"role": "user", "content": mark}], generate=False)

    def _trimmed(self) -> set[str]:
        """The roles whose text this template strips of white space at both ends."""
        texts = {"user": chr(FIRST_PRIVATE), "assistant": chr(FIRST_PRIVATE + 1)}
        turns = [{"role": role, "content": self._content(f"\t{mark}\t", 0)} for role, mark in texts.items()]
        written = self._write(turns, generate=False)
        return {role for role, mark in texts.items() if f"\t{mark}\t" not in written}

    def _template_text(self, messages: Sequence[Message], generate: bool) -> tuple[str, list[str]]:
        marks = [chr(FIRST_PRIVATE + index) for index in range(len(messages))]
        turns = [
            {"role": message.role, "content": self._content(mark, len(message.images) * self.shows_images)}
            for message, mark in zip(messages, marks, strict=True)
        ]
        return self._write(turns, generate), marks

    def _content(self, text: str, images: int) -> str | list[dict[str, str]]:
        return [*([{"type": "image"}] * images), {"type": "text", "text": text}] if self.parts else text

    def _write(self, turns: Sequence[dict[str, Any]], generate: bool) -> str:
        text: str = self.tokenizer.apply_chat_template(
            list(turns),
            chat_template=self.template,
            tokenize=False,
            add_generation_prompt=generate,
            begins=self.begins,
            # templates of reasoning models (Qwen3) begin an answer by an empty thought where it is trained, and where
            # it is asked for only if told so
            enable_thinking=False,
        )
        return text

    def _render(self, messages: Sequence[Message], generate: bool) -> Rendered:
        if self.system_prompt is not None and (not messages or messages[0].role != "system"):
            messages = [Message("system", self.system_prompt), *messages]
        text, marks = self._template_text(messages, generate)
        ids: list[int] = []
        answers: list[bool] = []
        places: list[int] = []
        images: list[ImageRef] = []

        def extend(new: Sequence[int], trained: bool) -> None:
            ids.extend(new)
            answers.extend([trained] * len(new))

        for message, mark in zip(messages, marks, strict=True):
            before, found, text = text.partition(mark)
            if not found:
                raise UserError(f"the chat template drops the {message.role} message; expected every message in order")
            first, *pieces = self._around_images(before, message)
            extend(self._encode(first, special=True), False)
            for image, piece in zip(message.images, pieces, strict=True):
                if self.image_ids is None:
                    raise UserError(f"{image.path}: this is a text-only model, expected records without images")
                slots = self.image_ids(image)
                places.extend(range(len(ids), len(ids) + len(slots)))
                images.append(image)
                extend(slots, False)
                extend(self._encode(piece, special=True), False)
            trained = message.role == "assistant"
            said = message.text.strip() if message.role in self.trimmed else message.text
            extend(self._encode(said, special=False), trained)
            if trained:
                extend([self.end_id], True)
                text = self._after_end(text)
        extend(self._encode(text, special=True), False)
        return Rendered(tuple(ids), tuple(answers), tuple(places), tuple(images))

    def _around_images(self, before: str, message: Message) -> list[str]:
        """The template's text before a message, cut where each of its images belongs."""
        if not self.shows_images:
            return [before, *([""] * len(message.images))]
        pieces = before.split(self.image_token)
        if len(pieces) != len(message.images) + 1:
            raise UserError(
                f"the chat template writes {len(pieces) - 1} images for {len(message.images)}, expected each once"
            )
        return pieces

    def _after_end(self, text: str) -> str:
        """The rest of the template's text, without the end token that was just written."""
        end: str = self.tokenizer.convert_ids_to_tokens(self.end_id)
        bare = text.lstrip()  # Llama 2 writes a space before it
        return bare.removeprefix(end) if bare.startswith(end) else text

    def _encode(self, text: str, special: bool) -> list[int]:
        if not text:
            return []
        if not special and self.image_token is not None and self.image_token in text:
            # not every tokenizer calls it special: written by a user it is text, so it is cut in two
            head, _, tail = text.partition(self.image_token)
            cut = self.image_token[:1], self.image_token[1:]
            return [*self._encode(head + cut[0], special=False), *self._encode(cut[1] + tail, special=False)]
        encoded = self.tokenizer(text, add_special_tokens=False, split_special_tokens=not special)
        return list(encoded["input_ids"])
