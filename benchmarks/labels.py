"""How fast `label` looks at pictures, beside the bare forward pass: `make bench-labels`.

Both run in turns: ours from a tar of JPEGs to files of features and likely words, theirs on normalised tensors that lie in
memory, in the same passes. One thread computes; ours decodes in two more. `--quick` takes small sizes that only show that
the benchmark works.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.measure import Setting, alternate, run_rows
from benchmarks.training import TrainingBench
from fistful.bow.embeddings import read_embeddings
from fistful.bow.store.model_folder import CONFIG_FILE, WEIGHTS_FILE
from fistful.pipelines.embedding import EmbedJob, embed_unit
from fistful.pipelines.read.plan import PlanOptions, plan_units
from fistful.pipelines.read.units import Unit
from fistful.training.model.load import load_encoder
from fistful.training.model.model import normalise
from fistful.training.model.tokens import ROWS
from fistful.training.model.tower_encoders import TowerEncoder
from fistful.training.train import train
from fistful.training.train_config import train_config

Rows = dict[str, Any]


class LabelsBench(TrainingBench):
    """Pictures in tars, and models of random weights."""

    def __init__(self, given: Setting) -> None:
        super().__init__(given)
        self.n_large, self.n_small = (32, 128) if given.quick else (256, 3_000)


def unit_of(folder: Path) -> Unit:
    """Return the first tar of a folder as a unit, as a data job plans it, however large."""
    tar = sorted(folder.glob("*.tar"))[0]
    return plan_units((str(tar),), PlanOptions(unit_mb=1e6, unit_files=10**9))[0][0]


def vit_224(bench: LabelsBench) -> Rows:
    """Pictures/s through ViT-B/32 at 224 px, from JPEGs of 300 px, against the bare forward pass."""
    return against_forward(bench, vit_b32(bench), unit_of(bench.tars(2 * bench.n_large, 300)), 0.9)


def vit_b32(bench: TrainingBench) -> str:
    """Return the folder of a ViT-B/32 of random weights."""
    import open_clip
    from safetensors.torch import save_file

    folder = bench.work / "ViT-B-32"
    if not (folder / WEIGHTS_FILE).exists():
        folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(0)
        weights = {name: tensor.contiguous() for name, tensor in open_clip.create_model("ViT-B-32").state_dict().items()}
        config = {"model_cfg": open_clip.get_model_config("ViT-B-32"), "preprocess_cfg": {}}
        (folder / CONFIG_FILE).write_text(json.dumps(config))
        save_file(weights, folder / WEIGHTS_FILE)
    return str(folder)


def tiny_64(bench: LabelsBench) -> Rows:
    """Pictures/s through the small tower at 64 px and its word head, from JPEGs of 80 px, against the bare forward pass."""
    run = bench.work / "tiny-run"
    quiet = {"progress": False, "threads": 1, "steps": 1, "batch_size": 64}
    train(str(bench.tars(2 * bench.n_small)), out=run, config=train_config(objective="joint", text="bag", **quiet))
    return against_forward(bench, str(run), unit_of(bench.tars(2 * bench.n_small, 80)), 0.7)


def against_forward(bench: TrainingBench, model: str, unit: Unit, bar: float, device: str = "cpu") -> Rows:
    """Time both on the same pictures; the features of the last turn are compared."""
    encoder = load_encoder(model, device)
    assert isinstance(encoder, TowerEncoder)
    job, folder = EmbedJob(model, encoder.fingerprint, device), bench.fresh()
    if device == "cpu":
        torch.set_num_threads(1)
    embed_unit(unit, folder, job)  # loads the model, which then stays
    batches = tensors_of(encoder, unit, job)
    theirs: list[torch.Tensor] = []

    def bare() -> None:
        theirs.clear()
        with torch.inference_mode():
            theirs.extend(encoder.image_function(batch.to(device)) for batch in batches)
            if device == "cuda":
                torch.cuda.synchronize()

    found = alternate(bare, lambda: embed_unit(unit, folder, job), bench.turns)
    ours = read_embeddings(sorted((folder / "embeddings").glob("*.parquet"))).features
    np.testing.assert_allclose(torch.cat(theirs).float().cpu().numpy()[: len(ours)], ours, atol=2e-4)
    return {"pictures": len(ours), "side": encoder.image_size, **found, "bar": bar}


def tensors_of(encoder: TowerEncoder, unit: Unit, job: EmbedJob) -> list[torch.Tensor]:
    """Return the unit's pictures as normalised tensors of ROWS pictures, the last filled up."""
    from fistful.bow.store.images import decode_image
    from fistful.pipelines.read.sources import open_unit

    with open_unit(unit, job.source, with_images=True, need_captions=False) as (opened, _):
        pictures = [encoder.prepare(decode_image(row.image)) for batch in opened for row in batch.rows if row.image is not None]
    pictures += [pictures[-1]] * (-len(pictures) % ROWS)
    mean, std = encoder.preprocess["mean"], encoder.preprocess["std"]
    parts = (torch.from_numpy(np.stack(pictures[i : i + ROWS])) for i in range(0, len(pictures), ROWS))
    return [normalise(part, mean, std).contiguous() for part in parts]


ROWS_OF_TABLE: tuple[Callable[[LabelsBench], Rows], ...] = (vit_224, tiny_64)


def main() -> None:
    """Measure and write benchmarks/results/labels-DATE.json."""
    run_rows("labels", __doc__, ROWS_OF_TABLE, LabelsBench)


if __name__ == "__main__":
    main()
