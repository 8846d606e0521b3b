"""Count multiply-accumulates (MACs) of a real encoder module, attention included.

The module is traced on the meta device by fvcore: no weights, no arithmetic, no memory
for activations. fvcore counts scaled dot-product attention as zero by default; the missing
handlers are supplied here, and an operator that nobody can vouch for is an error instead of
a warning. It must not know any family: an encoder is something with ``forward(images,
timestamps, patch_size)`` and a submodule called ``patch_embedding``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from fvcore.nn import FlopCountAnalysis
from torch import Tensor, nn

from models.cost import MacAxis, MacCount, TaskShape, published_axis
from models.sensors import modality
from models.tokens import InputShape

__all__ = ["CountedShape", "MacAxis", "MacCount", "MacCounter", "TaskShape", "count_macs"]

CountedShape = Sequence[InputShape]

# Operators whose MACs are counted, by the category that they belong to outside the patch
# embedding. fvcore's own handlers do all but attention and baddbmm.
_LINEAR = frozenset({"linear", "addmm", "mm", "matmul", "bmm", "baddbmm", "mv", "einsum", "conv"})
_ATTENTION = "scaled_dot_product_attention"

# Operators that hold no product of two tensors' inner dimensions. Everything else raises.
_NO_MACS_BY_KIND = {
    "shapes and copies": (
        "view reshape permute transpose t flatten unflatten expand expand_as contiguous clone "
        "unsqueeze squeeze unbind split chunk slice select index gather scatter cat stack to size "
        "alias detach arange zeros zeros_like ones ones_like full full_like empty new_zeros "
        "new_ones repeat repeat_interleave roll flip movedim embedding index_select masked_fill "
        "where copy_ meshgrid pad type_as narrow tile tril triu one_hot im2col col2im "
        "pixel_shuffle pixel_unshuffle channel_shuffle linspace scalar_tensor lift_fresh "
        "numpy_T moveaxis swapaxes hstack vstack dstack broadcast_to take_along_dim complex "
        "view_as_complex view_as_real"
    ),
    "element by element": (
        "add add_ sub sub_ rsub mul mul_ div div_ neg reciprocal pow sqrt rsqrt exp log sin cos "
        "tanh sigmoid relu relu_ gelu silu softmax _softmax dropout eq ne lt le gt ge "
        "logical_not logical_and logical_or bitwise_not clamp floor round abs maximum minimum "
        "outer square absolute sign erf log1p expm1 log2 log10 sin_ cos_ tan atan atan2 asin acos "
        "hardtanh hardtanh_ hardswish hardswish_ hardsigmoid hardsigmoid_ leaky_relu leaky_relu_ "
        "elu elu_ selu celu mish mish_ silu_ gelu_ sigmoid_ tanh_ softplus softsign relu6 prelu "
        "glu logsigmoid log_sigmoid log_softmax dropout_ feature_dropout clamp_ clamp_min "
        "clamp_max neg_ exp_ sqrt_ pow_ lerp addcmul addcdiv remainder fmod floor_divide "
        "true_divide trunc ceil isnan isfinite nan_to_num threshold"
    ),
    "reductions and norms": (
        "layer_norm native_layer_norm batch_norm group_norm instance_norm rms_norm mean sum max "
        "min amax amin argsort sort norm linalg_vector_norm frobenius_norm std var var_mean "
        "std_mean cumsum cumprod prod logsumexp argmax argmin topk median any all bincount"
    ),
    "pooling": (
        "avg_pool1d avg_pool2d avg_pool3d max_pool1d max_pool2d max_pool3d max_pool2d_with_indices "
        "adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d "
        "adaptive_max_pool2d lp_pool2d"
    ),
    "fixed interpolation of the image before it is cut into patches": (
        "upsample_bicubic2d _upsample_bicubic2d_aa upsample_bilinear2d _upsample_bilinear2d_aa "
        "upsample_nearest2d"
    ),
}
_NO_MACS = frozenset(
    f"aten::{name}" for names in _NO_MACS_BY_KIND.values() for name in names.split()
)


def count_macs(
    encoder: nn.Module | Callable[[], nn.Module], shapes: CountedShape, patch_size: int
) -> MacCount:
    """MACs of one sample.

    Args:
        encoder: a module whose tensors are on the meta device, or a function that builds one
            (called under ``torch.device("meta")``).
        shapes: one input shape per modality; all have the same number of steps.
        patch_size: side of a patch in pixels.

    Raises:
        UnknownOperatorError: the module uses an operator that might hold MACs and has no handler.
    """
    module = encoder if isinstance(encoder, nn.Module) else build_on_meta(encoder)
    tensors = (*module.parameters(), *module.buffers())
    # Inference on a CPU may take oneDNN's linear layer; traced it is `F.linear`, the same
    # product by another name (tests/harness/test_macs.py compares the two).
    wrapper = _Positional(module, [shape.modality for shape in shapes], patch_size)
    try:
        by_module = _trace(wrapper, shapes, "cpu" if any(x.is_cpu for x in tensors) else "meta")
    except TypeError:
        if any(x.is_cpu for x in tensors):
            raise
        # Torch's meta kernel of a convolution refuses the shapes of a trace. Such models are
        # traced on the CPU, on memory that nobody has filled: only shapes matter.
        by_module = _trace(wrapper.to_empty(device="cpu"), shapes, "cpu")
    return _split(by_module)


def _trace(wrapper: nn.Module, shapes: CountedShape, device: str) -> dict[str, Counter[str]]:
    images = [
        torch.empty(1, s.height, s.width, s.steps, _channels(s), device=device) for s in shapes
    ]
    timestamps = torch.zeros(1, shapes[0].steps, 3, dtype=torch.int64, device=device)
    with torch.no_grad(), _attention_in_parts():
        analysis = FlopCountAnalysis(wrapper.eval(), (timestamps, *images))
        analysis.set_op_handle(**_HANDLERS)
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        analysis.tracer_warnings("none")
        by_module: dict[str, Counter[str]] = analysis.by_module_and_operator()
        _refuse_unknown(analysis.unsupported_ops())
    return by_module


@contextmanager
def _attention_in_parts() -> Iterator[None]:
    """Torch's own transformer layers as the operators they stand for, not as one fused call.

    In evaluation mode `nn.MultiheadAttention` and `nn.TransformerEncoderLayer` may take a fast
    path, the same products in a single operator that the trace cannot see into.
    """
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _channels(shape: InputShape) -> int:
    return len(shape.bands if shape.bands is not None else modality(shape.modality).bands)


def build_on_meta(build: Callable[[], nn.Module]) -> nn.Module:
    """Build a module without memory for its weights."""
    with torch.device("meta"):
        return build()


class MacCounter:
    """Counts for one encoder, each input shape traced once."""

    def __init__(self, build: Callable[[], nn.Module]) -> None:
        """``build`` makes the encoder; it is called under ``torch.device("meta")``."""
        self._build = build
        self._module: nn.Module | None = None
        self._counts: dict[tuple[tuple[InputShape, ...], int], MacCount] = {}

    def count(self, shapes: CountedShape, patch_size: int) -> MacCount:
        """As `count_macs`."""
        key = (tuple(shapes), patch_size)
        if key not in self._counts:
            if self._module is None:
                self._module = build_on_meta(self._build)
            self._counts[key] = count_macs(self._module, shapes, patch_size)
        return self._counts[key]

    def published_axis(self) -> MacAxis:
        """Mean MACs over the 13 published task inputs."""
        return published_axis(self.count)


class _Positional(nn.Module):
    """An encoder with tensors for arguments, which is what tracing needs."""

    def __init__(self, encoder: nn.Module, names: Sequence[str], patch_size: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.names = list(names)
        self.patch_size = patch_size

    def forward(self, timestamps: Tensor, *images: Tensor) -> tuple[Tensor, ...]:
        named = dict(zip(self.names, images, strict=True))
        return tuple(self.encoder(named, timestamps, self.patch_size).values())


def _shape(value: Any) -> list[int]:
    sizes: list[int] = value.type().sizes()
    return sizes


def _attention_macs(inputs: list[Any], _outputs: list[Any]) -> Counter[str]:
    """Scores ``[Nq, d] x [d, Nk]`` and weighted values ``[Nq, Nk] x [Nk, dv]``, for every head."""
    query, key, value = (_shape(tensor) for tensor in inputs[:3])
    macs = prod(query[:-2]) * query[-2] * key[-2] * (query[-1] + value[-1])
    return Counter({_ATTENTION: macs})


def _batched_macs(inputs: list[Any], _outputs: list[Any]) -> Counter[str]:
    """``baddbmm(input, a, b)``."""
    a, b = _shape(inputs[1]), _shape(inputs[2])
    return Counter({"baddbmm": a[0] * a[1] * a[2] * b[2]})


def _vector_macs(inputs: list[Any], _outputs: list[Any]) -> Counter[str]:
    """``mv(matrix, vector)`` and ``dot(a, b)``: one per entry of the first."""
    return Counter({"mv": prod(_shape(inputs[0]))})


def _einsum_macs(inputs: list[Any], _outputs: list[Any]) -> Counter[str]:
    """One per combination of all indices of two operands; fvcore's own count is rounded."""
    equation = str(inputs[0].toIValue()).replace(" ", "")
    operands = list(inputs[1].node().inputs())
    terms = equation.partition("->")[0].split(",")
    if len(operands) == 1:
        return Counter()
    if len(operands) > 2 or "." in equation:
        raise UnknownOperatorError(
            f'MACs cannot be counted: einsum "{equation}" is more than a product of two tensors '
            "by named indices"
        )
    sizes: dict[str, int] = {}
    for term, operand in zip(terms, operands, strict=True):
        for index, size in zip(term, _shape(operand), strict=True):
            sizes[index] = max(size, sizes.get(index, 1))
    return Counter({"einsum": prod(sizes.values())})


def _nothing(_inputs: list[Any], _outputs: list[Any]) -> Counter[str]:
    return Counter()


# fvcore gives layer norms and resizes operations of their own, which are not MACs.
_HANDLERS: dict[str, Callable[[list[Any], list[Any]], Counter[str]]] = {
    **dict.fromkeys(_NO_MACS, _nothing),
    "aten::scaled_dot_product_attention": _attention_macs,
    "aten::baddbmm": _batched_macs,
    "aten::einsum": _einsum_macs,
    "aten::mv": _vector_macs,
    "aten::dot": _vector_macs,
}


def _refuse_unknown(operators: Iterable[str]) -> None:
    unknown = sorted(set(operators))
    if unknown:
        raise UnknownOperatorError(
            f"MACs cannot be counted: no handler for {', '.join(unknown)} in harness/macs.py"
        )


class UnknownOperatorError(RuntimeError):
    """An operator that might hold MACs and has no handler."""


@dataclass
class _Tally:
    patch_embedding: int = 0
    linear: int = 0
    attention: int = 0


def _split(by_module: dict[str, Counter[str]]) -> MacCount:
    """Total, less what the patch embedding spent, is linear layers and attention."""
    everything, embedding = by_module[""], by_module.get("encoder.patch_embedding", Counter())
    for operator, macs in everything.items():
        if macs and operator not in _LINEAR and operator != _ATTENTION:
            raise UnknownOperatorError(f"MACs of operator {operator} belong to no category")
    tally = _Tally(patch_embedding=round(sum(embedding.values())))
    for operator, macs in everything.items():
        outside = round(macs - embedding.get(operator, 0))
        if operator == _ATTENTION:
            tally.attention += outside
        else:
            tally.linear += outside
    return MacCount(tally.patch_embedding, tally.linear, tally.attention)
