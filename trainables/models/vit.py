"""Vision transformer for small images."""

import math

import torch
from torch import Tensor, nn

from trainables.models.layers import image_shape
from trainables.spec import SpecError

__all__ = ["VisionTransformer", "vit_small"]

SHIFTS = ((0, 1), (0, -1), (1, 0), (-1, 0))  # rows and columns by which the image is moved before it is cut


class ShiftedPatches(nn.Module):
    """Shifted patch tokenisation (Lee et al., 2021): the image beside four copies moved by a pixel, cut into patches.

    Args:
        channels: of the image.
        patch: side of a patch in pixels.
        width: of a token.
    """

    def __init__(self, channels: int, patch: int, width: int) -> None:
        super().__init__()
        self.patch = patch
        features = channels * (1 + len(SHIFTS)) * patch * patch
        self.norm = nn.LayerNorm(features)
        self.embed = nn.Linear(features, width)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens `[B, H W / p^2, width]` of images `[B, C, H, W]`; what moves in from outside is zero."""
        moved = [
            nn.functional.pad(x, (column, -column, row, -row))  # a negative pad crops
            for row, column in SHIFTS
        ]
        x = torch.cat([x, *moved], dim=1)
        batch, channels, height, width = x.shape
        p = self.patch
        cut = x.reshape(batch, channels, height // p, p, width // p, p).permute(0, 2, 4, 3, 5, 1)
        tokens: Tensor = self.embed(self.norm(cut.reshape(batch, (height // p) * (width // p), p * p * channels)))
        return tokens


class LocalityAttention(nn.Module):
    """Self-attention with a learned temperature in which no token attends to itself (Lee et al., 2021).

    Args:
        width: of a token.
        heads: attention heads.
        head_width: of a head.
        dropout: of the attention weights and of the output.
    """

    def __init__(self, width: int, heads: int, head_width: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.queries_keys_values = nn.Linear(width, 3 * heads * head_width, bias=False)
        self.log_temperature = nn.Parameter(torch.tensor(-0.5 * math.log(head_width)))
        self.attention_dropout = nn.Dropout(dropout)
        self.project = nn.Linear(heads * head_width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Apply to tokens `[B, T, width]`."""
        batch, tokens, _ = x.shape
        qkv = self.queries_keys_values(self.norm(x)).reshape(batch, tokens, 3, self.heads, -1)
        queries, keys, values = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        scores = queries @ keys.transpose(-1, -2) * self.log_temperature.exp()
        itself = torch.eye(tokens, dtype=torch.bool, device=x.device)
        scores = scores.masked_fill(itself, torch.finfo(scores.dtype).min)
        mixed = self.attention_dropout(scores.softmax(-1)) @ values
        out: Tensor = self.dropout(self.project(mixed.transpose(1, 2).reshape(batch, tokens, -1)))
        return out


def _feed_forward(width: int, hidden: int, dropout: float, norms: bool) -> nn.Sequential:
    """The MLP of a block; `norms` puts a LayerNorm after each of its two linear maps."""
    layers: list[nn.Module] = [nn.LayerNorm(width), nn.Linear(width, hidden)]
    layers += [nn.LayerNorm(hidden)] if norms else []
    layers += [nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, width)]
    layers += [nn.LayerNorm(width)] if norms else []
    return nn.Sequential(*layers, nn.Dropout(dropout))


class VisionTransformer(nn.Module):
    """Patches, a class token, learned positions, pre-norm blocks, and a linear head on the class token.

    Args:
        patches: image to tokens.
        count: tokens it makes.
        blocks: pairs of attention and feed-forward.
        width: of a token.
        outputs: logits.
        dropout: of the embedded tokens.
    """

    def __init__(
        self,
        patches: ShiftedPatches,
        count: int,
        blocks: list[tuple[nn.Module, nn.Module]],
        width: int,
        outputs: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.patches = patches
        self.positions = nn.Parameter(torch.randn(1, count + 1, width))
        self.class_token = nn.Parameter(torch.randn(1, 1, width))
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(nn.ModuleList(block) for block in blocks)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Logits `[B, outputs]` of images `[B, C, H, W]`."""
        tokens = self.patches(x)
        tokens = torch.cat([self.class_token.expand(len(tokens), -1, -1), tokens], dim=1)
        tokens = self.dropout(tokens + self.positions)
        for block in self.blocks:
            attention, feed_forward = block.children()
            tokens = tokens + attention(tokens)
            tokens = tokens + feed_forward(tokens)
        logits: Tensor = self.head(self.norm(tokens[:, 0]))
        return logits


def vit_small(
    shape: tuple[int, ...],
    outputs: int,
    *,
    patch: int,
    width: int,
    depth: int,
    heads: int,
    head_width: int,
    hidden: int,
    dropout: float,
    embedding_dropout: float,
    mlp_norms: bool,
) -> VisionTransformer:
    """ViT-small for 32x32 images, as in the practical set-up of Sadrtdinov et al. (NeurIPS 2024).

    Shifted patch tokenisation, attention with a learned temperature and a masked diagonal. The published network has a
    LayerNorm after each of the two linear maps of every MLP, which plain ViT-small has not.

    Args:
        shape: of one image, `(C, H, W)`, sides multiples of `patch`.
        outputs: logits.
        patch: side of a patch in pixels; published: 4.
        width: of a token; published: 512.
        depth: blocks; published: 6.
        heads: attention heads; published: 8.
        head_width: of a head; published: 64.
        hidden: units of each MLP; published: 512.
        dropout: of attention weights, attention output and MLPs; published: 0.1.
        embedding_dropout: of the embedded tokens; published: 0.1.
        mlp_norms: LayerNorms inside the MLPs; published: true.

    Returns:
        A module with torch's default initial weights; positions and class token start at N(0, 1).

    Raises:
        SpecError: the images cannot be cut into two or more patches.
    """
    channels, height, columns = image_shape("vit_small", shape, smallest=patch, multiple=patch)
    count = (height // patch) * (columns // patch)
    if count < 2:
        raise SpecError([f"model 'vit_small' needs two or more patches, found {count}; use a smaller patch"])
    blocks: list[tuple[nn.Module, nn.Module]] = [
        (LocalityAttention(width, heads, head_width, dropout), _feed_forward(width, hidden, dropout, mlp_norms))
        for _ in range(depth)
    ]
    return VisionTransformer(ShiftedPatches(channels, patch, width), count, blocks, width, outputs, embedding_dropout)
