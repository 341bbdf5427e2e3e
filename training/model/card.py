"""The card of a model: README.md in the hub's form, made of what the model's folder and its run say; no place, time or machine in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .export import Lineage
    from .model import Shape

SHOWN = {"caption": "captions", "bag": "bags of words", "balanced": "bags of words, thinned out anew each epoch"}

FOR_OPEN_CLIP = """```python
import open_clip

model, _, preprocess = open_clip.create_model_and_transforms("local-dir:FOLDER")  # or hf-hub:OWNER/NAME
tokenizer = open_clip.get_tokenizer("local-dir:FOLDER")
```

"""
FOR_FISTFUL = """```python
import fistful

model = fistful.load("FOLDER")
model.embed_images(["photo.jpg"])
```
"""


def model_card(shape: Shape, lineage: Lineage, options: Mapping[str, Any], is_whole: bool = True) -> str:
    """Return the card of a model.

    Args:
        shape: What it is made of.
        lineage: Where it comes from.
        options: The semantic options of its run, as its config.json has them.
        is_whole: Whether its weights are all there; of a tuned model they lie elsewhere.
    """
    language = str(lineage.word_options.get("language", ""))
    for_open_clip = shape.for_open_clip and is_whole
    front = ["library_name: " + ("open_clip" if for_open_clip else "fistful")]
    front += ["pipeline_tag: " + ("zero-shot-image-classification" if shape.text_tower else "image-feature-extraction")]
    front += ["language:", f"- {language}"] if len(language) == 2 and language != "xx" else []
    front += ["tags:", "- clip", "- fistful", "- bag-of-words"]
    facts = "\n".join(f"| {name} | {value} |" for name, value in {**_towers(shape), **_training(lineage, options)}.items())
    use = (FOR_OPEN_CLIP if for_open_clip else "open_clip has no such model; fistful reads it:\n\n") + FOR_FISTFUL
    text = f"# A {'CLIP model' if shape.text_tower else 'model of words'} trained by fistful\n\n| | |\n|---|---|\n{facts}\n\n{use}"
    return "\n".join(["---", *front, "---", "", text])


def _towers(shape: Shape) -> dict[str, str]:
    """Return what the model is made of."""
    vision, text = shape.model_cfg["vision_cfg"], shape.model_cfg.get("text_cfg", {})
    kind = "ViT" if isinstance(vision.get("layers"), int) else "ResNet"
    size = vision.get("image_size", 224)
    found = {"image tower": f"{vision.get('timm_model_name') or kind}, pictures of {size if isinstance(size, int) else size[0]} pixels"}
    if shape.text_tower == "transformer":
        found["text tower"] = f"transformer of {text.get('layers', 12)} layers, {text.get('context_length', 77)} positions"
    elif shape.text_tower == "words":
        found["text tower"] = f"mean of the vectors of {shape.n_words:,} words"
    if shape.text_tower:
        found["embedding"] = f"{shape.model_cfg['embed_dim']} numbers"
    if shape.head:
        found["word head"] = f"{shape.n_words:,} words"
    return found


def _training(lineage: Lineage, options: Mapping[str, Any]) -> dict[str, str]:
    """Return how the model was trained, and on what."""
    sees = {None: "not known", True: "yes", False: "no"}[lineage.saw_imagenet_labels]
    found = {"objective": str(options["objective"])}
    if options["objective"] != "words":
        found["text"] = SHOWN[options["text"]]
    found["training"] = f"{options['steps']:,} steps of {options['batch_size']:,} samples, seed {options['seed']}"
    if lineage.init:
        found["started from"] = f"weights with the fingerprint `{lineage.init}`; of the image tower learnt: {lineage.train_image}"
    if options.get("tune", "none") != "none":
        found["tuned by"] = (
            f"{options['tune']}, {'merged into the weights' if options['merge'] else 'which needs the weights that it started from'}"
        )
    if options.get("word_vectors"):
        found["words started from"] = f"vectors of captions alone, with the fingerprint `{options['word_vectors']}`"
    found["data (fingerprints)"] = ", ".join(f"`{fingerprint}`" for fingerprint in lineage.data)
    if lineage.holdout:
        found["held out"] = f"{lineage.holdout:g} of the captioned pictures"
    return {**found, "image tower saw ImageNet's labels": sees, "configuration": f"`{lineage.config_id}`"}
