"""A pretrained model of torchgeo (`torchgeo:WEIGHTS`), e.g. `ResNet50_Weights.SENTINEL2_ALL_MOCO`.

Bands, their order and the normalisation come from the weights' own metadata and transforms.
Only models that timm builds (ResNet, ViT) and weights of digital numbers (or dB) are taken:
those made for 8-bit pictures would see something else than they were trained on. Option:
``pretrained`` (true); false gives the same network untrained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from torch import Tensor, nn

from models.adapters.features import norm_after_pooling, tokens_of
from models.adapters.timm import broken
from models.errors import UserError

OPTICAL, RADAR = "sentinel2_l2a", "sentinel1"
NATIVE_SIDE = 224  # pixels; to which torchgeo's transforms bring every image
SMALLEST_STD = 500.0  # of digital numbers; what is divided by less is an 8-bit picture


class TorchgeoModel(nn.Module):
    """See the module."""

    max_steps = 12
    native_side = NATIVE_SIDE

    def __init__(self, model: str, pretrained: bool = True) -> None:
        super().__init__()
        library = imported_torchgeo()
        try:
            weights = library.get_weight(model)
        except ValueError:
            raise UserError(
                f'torchgeo has no weights "{model}"; it has e.g. ResNet50_Weights.'
                "SENTINEL2_ALL_MOCO (torchgeo.models.get_model_weights lists a model's)."
            ) from None
        meta: Mapping[str, Any] = weights.meta
        self.modality, names = bands_of(meta.get("bands") or (), model)
        self.bands = {self.modality: names}
        self.level = "L1C" if "B10" in names else "any"
        pairs = affine_of(weights.transforms, len(names))
        small = self.modality == OPTICAL and median(s for _, s in pairs or [(0, 0)]) < SMALLEST_STD
        if not pairs or small:
            raise UserError(
                f"{model} has no normalisation for digital numbers or dB (its transforms are made "
                "for other values, such as 8-bit pictures); choose other weights."
            )
        self.statistics = dict(zip(names, pairs, strict=True))
        given = {"weights": weights} if pretrained else {"in_chans": meta["in_chans"]}
        self.network = library.get_model(meta["model"], **given)
        if not hasattr(self.network, "forward_features"):
            raise UserError(
                f"{model} belongs to {meta['model']}, which is no model that timm builds; wrap it "
                "in a class of your own."
            )
        fixed = getattr(getattr(self.network, "patch_embed", None), "img_size", None)
        if fixed is not None:
            self.sides = [int(fixed[0])]
        if pretrained:
            self.weights = f"{model} of torchgeo, {meta.get('publication', 'no publication')}"
            self.licence = f"as its publisher says: {meta.get('repo', meta.get('publication'))}"
        self.after_pooling = norm_after_pooling(self.network)

    def forward(self, images: Mapping[str, Tensor], timestamps: Tensor, patch_size: int) -> Tensor:
        """Tokens; the model has a patch size of its own, and dates are not looked at."""
        return tokens_of(self.network, images[self.modality])


def bands_of(given: Sequence[str], weights: str) -> tuple[str, list[str]]:
    """Modality and our band names, in the model's order. `UserError` for another sensor's."""
    if given and set(given) <= {"VV", "VH"}:
        return RADAR, list(given)
    names = [_optical_name(str(band)) for band in given]
    # Landsat's bands are called B1, B2... too, and are others.
    if "SENTINEL2" not in weights.upper() or not names or None in names:
        raise UserError(
            f"{weights} reads {', '.join(given) or 'bands that torchgeo does not name'}, which are "
            "no bands of Sentinel-2 or Sentinel-1."
        )
    return OPTICAL, [name for name in names if name is not None]


def _optical_name(band: str) -> str | None:
    """``B1`` -> ``B01``, ``B8a`` -> ``B8A``."""
    number = band.upper().removeprefix("B")
    if number == "8A":
        return "B8A"
    valid = band.upper().startswith("B") and number.isdigit() and 1 <= int(number) <= 12
    return f"B{int(number):02d}" if valid else None


def affine_of(transforms: Any, channels: int) -> list[tuple[float, float]]:
    """Per channel m, s of ``(x - m) / s``, which a chain of normalisations comes to."""
    found = [(0.0, 1.0)] * channels
    any_there = False
    for step in transforms.modules() if isinstance(transforms, nn.Module) else ():
        if type(step).__name__ != "Normalize":
            continue
        any_there = True
        source = getattr(step, "flags", None) or vars(step)  # kornia keeps them in flags
        means, stds = (_per_channel(source[key], channels) for key in ("mean", "std"))
        # ((x - m) / s - mean) / std = (x - (m + s mean)) / (s std)
        found = [
            (m + s * mean, s * std) for (m, s), mean, std in zip(found, means, stds, strict=True)
        ]
    return found if any_there else []


def _per_channel(values: Any, channels: int) -> list[float]:
    numbers = [float(v) for v in (values.flatten() if isinstance(values, Tensor) else values)]
    return numbers * channels if len(numbers) == 1 else numbers


def imported_torchgeo() -> Any:
    """``torchgeo.models``. Raises `UserError` when it is absent or cannot be imported."""
    try:
        import torchgeo.models as library  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if error.name not in ("torchgeo", "torchgeo.models"):
            raise broken("torchgeo", error) from None
        raise UserError(
            "Models of torchgeo need the package torchgeo; install it with "
            'pip install "tokenrank[torchgeo]".'
        ) from None
    except (ImportError, RuntimeError, OSError) as error:
        raise broken("torchgeo", error) from None
    return library
