"""A model of ours inside lmms-eval 0.7.3, which imports this module; nothing of ours does.

    python -m lmms_eval --model topovlm --model_args pretrained=out/onnx --tasks ai2d

The entry point `lmms_eval.models` names `manifest`. Prompts, pictures and scores are lmms-eval's own; what is
ours is the way from pictures and words to an answer, the same as that of `topovlm eval`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from lmms_eval.api.model import lmms
from loguru import logger
from PIL import Image
from tqdm import tqdm

from topovlm.errors import InputError, explain
from topovlm.harness.answering import open_answering
from topovlm.samples import Sample

MODEL = "topovlm"
_STRETCH = 256  # questions whose pictures are in memory at a time
_NEW_TOKENS = 1024  # where a task does not say: lmms-eval's own models take as many
_NO_STOP = "\n\n"  # lmms-eval's default, which its models leave out: it would end answers at a blank line


def manifest() -> Any:
    """What lmms-eval registers: pictures first, then the words, as its simple models are asked."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest(model_id=MODEL, simple_class_path=f"{__name__}.Topovlm")


class Topovlm(lmms):  # type: ignore[misc]  # lmms-eval is not installed where types are checked
    """`--model_args pretrained=FOLDER[,threads=N][,max_new_tokens=N]`, a checkpoint or an exported folder.

    Of an exported one also `variant` and `provider`, of a checkpoint `dtype` and `device`. `max_new_tokens`
    bounds what a task asks for. Questions that cannot be asked are named in the log, and answered by nothing.
    """

    is_simple = True

    def __init__(
        self,
        pretrained: str,
        *,
        threads: int | None = None,
        variant: str = "plain",
        provider: str | None = None,
        device: str | None = None,
        dtype: str = "float32",
        max_new_tokens: int | None = None,
        batch_size: int | str | None = None,
    ) -> None:
        """`batch_size` comes from the command line, and changes nothing: prompts of a length go together."""
        super().__init__()
        if max_new_tokens is not None and max_new_tokens < 1:
            raise InputError(explain("max_new_tokens", max_new_tokens, "must be at least 1"))
        self._most_tokens = max_new_tokens
        self._model = open_answering(
            str(pretrained),
            threads=threads,
            variant=variant,
            provider=provider,
            device=device or "auto",
            dtype=dtype,
        )

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """Greedy answers in the order of the requests, cut before the first of a task's own stops."""
        texts: list[str] = []
        unasked = 0
        with tqdm(total=len(requests), desc=MODEL) as bar:
            for start in range(0, len(requests), _STRETCH):
                stretch = [request.args for request in requests[start : start + _STRETCH]]
                for args, text in zip(stretch, self._said(stretch, bar.update), strict=True):
                    unasked += text is None
                    texts.append(_before(text or "", args[1].get("until")))
                    self.cache_hook.add_partial("generate_until", args[:2], texts[-1])
        if unasked:
            logger.warning(f"{unasked} of {len(requests)} questions could not be asked: they count as wrong")
        return texts

    def _said(self, stretch: Sequence[tuple[Any, ...]], done: Any) -> list[str | None]:
        """None for a question that cannot be asked."""
        samples = [self._sample(args) for args in stretch]
        rooms: dict[int, list[int]] = {}  # tokens of an answer -> places
        texts: list[str | None] = [None] * len(stretch)
        for place, (sample, args) in enumerate(zip(samples, stretch, strict=True)):
            try:
                rooms.setdefault(self._model.room(sample, self._wanted(args[1])), []).append(place)
            except InputError as error:
                logger.warning(f"{sample.id} cannot be asked: {error}")
                done()
        for new_tokens, places in rooms.items():
            said = self._model.answers([samples[place] for place in places], new_tokens)
            for place, text in zip(places, said, strict=True):
                texts[place] = text
            done(len(places))
        return texts

    def _sample(self, args: tuple[Any, ...]) -> Sample:
        """Raises `InputError` for a task of videos, and for one that wants answers drawn at random."""
        words, settings, visuals, doc, task, split = args
        if (settings.get("temperature") or 0) > 0 or (settings.get("num_beams") or 1) > 1:
            rule = "asks for sampled answers or beams; answers are greedy"
            raise InputError(explain("tasks", task, rule, "Give --gen_kwargs temperature=0,num_beams=1"))
        pictures = tuple(visuals(self.task_dict[task][split][doc]) or ())
        for picture in pictures:
            if not isinstance(picture, Image.Image):
                rule = "does not ask about pictures, and models are given pictures and words"
                raise InputError(explain("tasks", task, rule))
        return Sample(id=f"{task} {split} {doc}", images=pictures, prompt=words)

    def _wanted(self, settings: dict[str, Any]) -> int:
        wanted = int(settings.get("max_new_tokens") or settings.get("max_gen_toks") or _NEW_TOKENS)
        return wanted if self._most_tokens is None else min(wanted, self._most_tokens)

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        raise InputError(_only_answers("loglikelihood"))

    def generate_until_multi_round(self, requests: Sequence[Any]) -> list[str]:
        raise InputError(_only_answers("generate_until_multi_round"))


def _only_answers(kind: str) -> Any:
    return explain("output_type", kind, "is not what models answer here", "Choose tasks of generate_until")


def _before(text: str, stops: str | Iterable[str] | None) -> str:
    """The text before the first stop that it holds."""
    for stop in (stops,) if isinstance(stops, str) else stops or ():
        if stop and stop != _NO_STOP:
            text = text.partition(stop)[0]
    return text
