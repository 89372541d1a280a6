"""A checkpoint's processor: what turns messages into tokens and pictures, as transformers has it.

Text-only models have a tokenizer alone, which then stands for the processor.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from topovlm.checkpoint.chat import chat_template
from topovlm.checkpoint.files import read_config, read_json_object, read_preprocessor
from topovlm.checkpoint.films import conversation_parts, films_of, metadata
from topovlm.checkpoint.loading import load_errors, native_of, quiet_transformers, read_stock_config
from topovlm.checkpoint.whole_prompts import see_whole_prompts
from topovlm.errors import InputError, explain, located
from topovlm.families.catalogue import family_of, find_family
from topovlm.families.configs import ModelConfig
from topovlm.families.facts import ModelFacts
from topovlm.families.family import Family
from topovlm.families.sizes import read_shape
from topovlm.runtime.template import messages, render
from topovlm.runtime.tokenizer_file import check_tokenizer
from topovlm.samples import Sample
from topovlm.videos.frames import Frames

_FILES = ("processor_config.json", "preprocessor_config.json", "tokenizer_config.json")
# Packages that the processors of families with videos ask for: pictures need none of them.
_FOR_VIDEOS = ("torchvision", "num2words")
OWN_PROCESSOR = "Use the model's own processor"
_AS_IT_IS = "{{ rendered }}"  # a chat template that writes what was rendered already
_MOST_WORDS = 300  # characters of somebody else's error
_OLD_PIXELS = "pixel_values_images"  # one image processor says so, its model no more


def load_processor(folder: Path) -> Any:
    """The model's own processor: template, tokenizer, pictures. Raises `InputError`."""
    from transformers import AutoProcessor

    processors: Any = AutoProcessor  # untyped in transformers
    check_tokenizer(folder / "tokenizer.json")
    read_preprocessor(folder)  # its sizes are within bounds
    config = read_config(folder)
    stock = read_stock_config(folder)  # processors are chosen by it: what is wrong with it is not their fault
    native = native_of(config)
    if native is not None:
        return _native(native, stock, folder, config)
    with load_errors(folder):
        # Asked for by name: choosing by the model's type, transformers forgets that no code may run.
        kind = _class_of(folder)
        if kind is None:
            processor = processors.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        else:
            whole = all(map(find_spec, _FOR_VIDEOS))
            with contextlib.nullcontext(kind) if whole else still_pictures(kind) as still:
                processor = still.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    _with_pillow(processor, folder)
    _with_films(processor, folder, config)
    see_whole_prompts(tokenizer_of(processor))
    family = find_family(config.get("model_type"))
    if family is not None:
        if not family.text_only and getattr(processor, "image_processor", None) is None:
            named = _read(folder / "processor_config.json").get("processor_class")
            rule = "gives no processor that takes pictures, as the model does"
            raise InputError(explain("processor_class", named, rule, OWN_PROCESSOR).at(str(folder)))
        _complete(processor, folder, config, family)
    templated = family is None or family.prompt == "template"
    if templated and getattr(processor, "chat_template", None) is None:
        rule = "has no chat template, so a prompt cannot be written the way it was trained"
        raise InputError(explain("--model", str(folder), rule, "Add chat_template.jinja"))
    return processor


def _native(native: Any, stock: Any, folder: Path, config: ModelConfig) -> Any:
    """Of a family that transformers does not have: its tokenizer, and our processor around it."""
    import transformers

    tokenizers: Any = transformers.AutoTokenizer  # untyped in transformers
    with load_errors(folder):
        tokenizer = tokenizers.from_pretrained(
            folder, config=stock, local_files_only=True, trust_remote_code=False
        )
    see_whole_prompts(tokenizer)
    facts, family = ModelFacts(config, read_preprocessor(folder, config)), family_of(config)
    settings = dict(facts.preprocessor or {})
    kind = str(settings.pop("image_processor_type", "")).removesuffix("Fast").removesuffix("Pil")
    images = getattr(transformers, f"{kind}Pil", None)
    if images is None:
        rule = "is no image processor of transformers"
        raise InputError(explain("preprocessor_config.json: image_processor_type", kind, rule, OWN_PROCESSOR))
    with load_errors(folder):
        template = chat_template(folder, config, family, tokenizer.convert_ids_to_tokens)
        made = native.processor(images(**settings), tokenizer, chat_template=template, facts=facts)
    made.films = films_of(folder, config, family, tokenizer)
    return made


def _complete(processor: Any, folder: Path, config: ModelConfig, family: Family) -> None:
    """What some processors count tokens by: older folders state it in config.json alone."""
    tower = read_shape(config).vision if hasattr(processor, "vision_feature_select_strategy") else None
    if tower is None:
        return
    stated = _read(folder / "processor_config.json")
    facts = {
        "patch_size": tower.patch,
        "vision_feature_select_strategy": {**family.defaults, **config}.get("vision_feature_select_strategy"),
        "num_additional_image_tokens": int(tower.class_token),
        "num_image_tokens": (tower.image_size // tower.patch) ** 2,
    }
    for name, value in facts.items():
        if hasattr(processor, name) and stated.get(name) is None:
            setattr(processor, name, value)


def _with_pillow(processor: Any, folder: Path) -> None:
    """Let Pillow prepare the pictures: torchvision, where it is installed, resizes them to other pixels.

    What is exported is fed pixels that Pillow made; scores, judgements and answers are of the same ones.
    """
    from transformers import AutoImageProcessor

    images = getattr(processor, "image_processor", None)
    if images is None or type(images).__name__.endswith("Pil"):
        return
    loader: Any = AutoImageProcessor  # untyped in transformers
    with load_errors(folder):
        processor.image_processor = loader.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, backend="pil"
        )


def _with_films(processor: Any, folder: Path, config: ModelConfig) -> None:
    """And the videos, while a prompt is made: at all other times the processor is stock."""
    family = find_family(config.get("model_type"))
    processor.films = None if family is None else films_of(folder, config, family, tokenizer_of(processor))


@contextlib.contextmanager
def _showing(processor: Any, videos: Sequence[Frames]) -> Iterator[None]:
    before = getattr(processor, "video_processor", None)
    if videos:
        processor.video_processor = processor.films
    try:
        yield
    finally:
        if videos:
            processor.video_processor = before


def tokenizer_of(processor: Any) -> Any:
    """The tokenizer inside a processor; of a text-only model it is the processor."""
    return getattr(processor, "tokenizer", processor)


def fast_tokenizer(processor: Any, folder: Path) -> Any:
    """The `tokenizers.Tokenizer` inside a processor. Raises `InputError` where it has a slow one."""
    tokenizer = getattr(tokenizer_of(processor), "backend_tokenizer", None)
    if tokenizer is None:
        rule = "the checkpoint has no fast tokenizer"
        raise InputError(explain("tokenizer.json", str(folder), rule, "Save it with a fast tokenizer"))
    return tokenizer


def prompt_text(processor: Any, family: Family, pictures: int, words: str, videos: int = 0) -> str:
    """One turn of the user as the model's own template writes it, pictures and videos as placeholders.

    Rendered here, within bounds (`runtime.template`): transformers would run any template to its end. Raises
    `InputError` where the template refuses it, or does not stop.
    """
    if videos and getattr(processor, "films", None) is None:
        raise InputError(explain("videos", videos, "this model takes no videos"))
    if family.prompt == "plain":
        return str(processor.image_token) * pictures + words
    template = processor.chat_template
    if isinstance(template, dict):  # several, by name
        template = template.get("default")
    if not isinstance(template, str):
        rule = "must be text, or have a template named default"
        raise InputError(explain("chat_template", type(template).__name__, rule))
    # Templates of text-only models take nothing but words.
    turn = messages(pictures, words, videos=videos, parts=family.tokens is not None)
    return render(template, turn, tokens=tokenizer_of(processor).special_tokens_map)


def processed(
    processor: Any, family: Family, pictures: Sequence[Any], words: str, videos: Sequence[Frames] = ()
) -> Any:
    """What the model's own processor makes of one turn of the user: tensors by name, `input_ids` `[1, T]`.

    Raises `InputError` where its template or it refuses them.
    """
    text = prompt_text(processor, family, len(pictures), words, len(videos))
    if family.prompt == "plain":
        with _refusals():
            return processor(images=list(pictures) or None, text=text, return_tensors="pt")
    content: Any = words
    if family.tokens is not None:
        images = [{"type": "image", "image": picture} for picture in pictures]
        content = [*images, *conversation_parts(videos), {"type": "text", "text": words}]
    told = {"processor_kwargs": {"video_metadata": metadata(videos)}} if videos else {}
    with _refusals(), _showing(processor, videos):
        made = processor.apply_chat_template(
            [{"role": "user", "content": content}],
            chat_template=_AS_IT_IS,
            rendered=text,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            **told,
        )
    if _OLD_PIXELS in made:
        made["pixel_values"] = made.pop(_OLD_PIXELS)
    return made


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    """Whatever a processor raises over a prompt is about that prompt: `InputError` in its words."""
    try:
        with quiet_transformers():
            yield
    except InputError:
        raise
    except Exception as error:  # transformers, tokenizers and Pillow share no base class but this
        words = " ".join(str(error).split())[:_MOST_WORDS] or type(error).__name__
        raise InputError(explain("prompt", "...", f"the model's processor refuses it: {words}")) from error


def picture_marks(processor: Any) -> list[str]:
    """Texts that stand for pictures and videos in a template: no words may hold them."""
    own = [getattr(processor, name, None) for name in ("image_token", "boi_token", "video_token")]
    return list(dict.fromkeys(mark for mark in own if isinstance(mark, str) and mark))


def check_asked(processor: Any, family: Family, sample: Sample) -> str:
    """The text of a sample's prompt. Raises `InputError` naming it where the model cannot be asked that."""
    where = sample.source or sample.id
    for mark in picture_marks(processor):
        if mark in sample.prompt:
            rule = f"contains {mark}, which marks the place of a picture"
            raise InputError(explain("prompt", sample.prompt, rule).at(where))
    if sample.images and family.text_only:
        raise InputError(explain("images", len(sample.images), "this model takes no pictures").at(where))
    try:
        return prompt_text(processor, family, len(sample.images), sample.prompt, len(sample.videos))
    except InputError as error:
        raise InputError(located(error, where)) from None


def processed_sample(processor: Any, family: Family, sample: Sample) -> Any:
    """As `processed`, of a sample. Raises `InputError` naming it where the model cannot be asked that."""
    check_asked(processor, family, sample)
    pictures, videos = sample.load_images(), sample.load_videos()
    try:
        return processed(processor, family, pictures, sample.prompt, videos)
    except InputError as error:  # PaliGemma's takes no prompt without a picture
        message = explain("prompt", sample.prompt, error.rule, error.remedy)
        raise InputError(message.at(sample.source or sample.id)) from error


@contextlib.contextmanager
def still_pictures(kind: Any) -> Iterator[Any]:
    """A processor class of transformers without its part for videos, to make instances of in the block.

    That part needs torchvision. The class writes the same files and is called the same; one without such a
    part is given back as it is.
    """
    every = kind.get_attributes()
    if "video_processor" not in every:
        yield kind
        return
    place = every.index("video_processor")

    def attributes(_cls: Any, /) -> list[str]:
        return [*every[:place], *every[place + 1 :]]

    def arguments(cls: Any, /, path: Any, processor_dict: Any = None, **kwargs: Any) -> list[Any]:
        found = super(still, cls)._get_arguments_from_pretrained(path, processor_dict, **kwargs)
        return [*found[:place], None, *found[place:]]

    from transformers import ProcessorMixin

    class WithoutVideos(ProcessorMixin):
        """Behind `kind`, which hands on all of its parts in their order."""

        def __init__(self, *parts: Any, **named: Any) -> None:
            kept = [part for number, part in enumerate(parts) if number != place]
            super().__init__(*kept, **named)  # type: ignore[no-untyped-call]  # untyped in transformers

    members = {
        "__module__": kind.__module__,
        "video_processor": SimpleNamespace(num_frames=None, fps=None),  # SmolVLM's template asks for these
        "get_attributes": classmethod(attributes),
        "_get_arguments_from_pretrained": classmethod(arguments),
    }
    still: Any = type(kind.__name__, (kind, WithoutVideos), members)
    # SmolVLM's refuses to be made without num2words, which spells out how many frames a video has.
    module: Any = sys.modules[kind.__module__]
    lacking = hasattr(module, "num2words") and module.num2words is None
    if lacking:
        module.num2words = str
    try:
        yield still
    finally:
        if lacking:
            module.num2words = None


def processor_class(name: str) -> Any:
    """A processor class of transformers, also where it says that it needs torchvision (Pixtral's does)."""
    import transformers
    from transformers.utils.import_utils import DummyObject

    kind = getattr(transformers, name)
    if not isinstance(kind, DummyObject):
        return kind
    package = kind.__module__.rpartition(".")[0]
    family = package.rpartition(".")[2]
    # What it takes from the module for torchvision is in the one for Pillow too.
    wanted = f"{package}.image_processing_{family}"
    sys.modules[wanted] = import_module(f"{package}.image_processing_pil_{family}")
    try:
        return getattr(import_module(f"{package}.processing_{family}"), name)
    finally:
        del sys.modules[wanted]


def _class_of(folder: Path) -> Any:
    """The processor class that a folder names, else that of its model type; None for a tokenizer alone."""
    import transformers

    by_type = import_module("transformers.models.auto.processing_auto").PROCESSOR_MAPPING_NAMES
    names = [_read(folder / file).get("processor_class") for file in _FILES]
    names.append(by_type.get(_read(folder / "config.json").get("model_type")))
    name = next((name for name in names if name), None)
    if not isinstance(name, str) or not hasattr(transformers, name):
        return None
    kind = processor_class(name)
    return kind if isinstance(kind, type) and issubclass(kind, transformers.ProcessorMixin) else None


def _read(path: Path) -> ModelConfig:
    return read_json_object(path, path.name) if path.is_file() else {}
