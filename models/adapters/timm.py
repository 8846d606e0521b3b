"""A model of timm (`timm:NAME`), fed with bands of Sentinel-2 as if they were a photograph.

Options: ``pretrained`` (false), ``bands`` ("B04,B03,B02"), ``white`` (3000: the digital number
that counts as full brightness, reflectance 0.3), and what `timm.create_model` takes. The
statistics are those of the model's own pretraining (ImageNet's, as timm records them) times
``white``: the network sees ``(x / white - mean) / std``. With another number of bands no such
statistics exist, and the data set's are taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor, nn

from models.adapters.features import norm_after_pooling, tokens_of
from models.errors import UserError


class TimmModel(nn.Module):
    """See the module."""

    max_steps = 12

    def __init__(
        self,
        model: str,
        pretrained: bool = False,
        bands: str = "B04,B03,B02",
        white: float = 3000.0,
        **options: Any,
    ) -> None:
        super().__init__()
        timm = imported_timm()
        names = [name.strip() for name in bands.split(",")]
        known = timm.list_models()
        if model.partition(".")[0] not in known:
            close = get_close_matches(model, known, n=3)
            raise UserError(
                f'timm has no model "{model}"; closest: {", ".join(close) or "none"} '
                "(timm.list_models() gives all)."
            )
        self.network = timm.create_model(
            model, pretrained=pretrained, num_classes=0, in_chans=len(names), **options
        )
        config: Mapping[str, Any] = self.network.pretrained_cfg
        self.bands = {"sentinel2_l2a": names}
        if len(names) == 3:
            pairs = zip(names, config["mean"], config["std"], strict=True)
            self.statistics = {band: (mean * white, std * white) for band, mean, std in pairs}
        side = int(options.get("img_size", config["input_size"][-1]))
        self.native_side = side
        if config.get("fixed_input_size") and not options.get("dynamic_img_size"):
            self.sides = [side]
        if pretrained:
            tag = config.get("tag") or "default"
            self.weights = f"{tag} of {config.get('architecture', model)}, by timm {_home(config)}"
            self.licence = str(config.get("license") or "not stated by timm; see the model card")
        self.after_pooling = norm_after_pooling(self.network)

    def forward(self, images: Mapping[str, Tensor], timestamps: Tensor, patch_size: int) -> Tensor:
        """Tokens; the model has a patch size of its own, and dates are not looked at."""
        return tokens_of(self.network, images["sentinel2_l2a"])


def _home(config: Mapping[str, Any]) -> str:
    return str(config.get("hf_hub_id") or config.get("url") or "").strip()


def imported_timm() -> Any:
    """The package. Raises `UserError` when it is absent or cannot be imported."""
    try:
        import timm  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if error.name != "timm":
            raise broken("timm", error) from None
        raise UserError(
            'Models of timm need the package timm; install it with pip install "tokenrank[timm]".'
        ) from None
    except (ImportError, RuntimeError, OSError) as error:
        raise broken("timm", error) from None
    return timm


def broken(package: str, error: Exception) -> UserError:
    """Installed, and not importable: mostly a torchvision built for another torch."""
    return UserError(
        f"{package} is installed but cannot be imported ({' '.join(str(error).split())}); it needs "
        f"a torchvision that was built for torch {torch.__version__}."
    )
