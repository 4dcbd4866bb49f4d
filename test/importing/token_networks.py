"""Vision transformers, and policies with a memory, as others write them."""

import torch
from torch import nn, Tensor
from torch.nn import functional


class Attention(nn.Module):
    """Of one projection for queries, keys and values, taken apart by hand."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        return self.proj(self.mixed(query, key, value).transpose(1, 2).reshape(
            batch, tokens, width))

    def mixed(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return functional.scaled_dot_product_attention(query, key, value)


class WrittenOutAttention(Attention):
    def mixed(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        scores = query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5
        return scores.softmax(dim=-1) @ value


class TransformerBlock(nn.Module):
    def __init__(self, width: int, heads: int, attention: type[Attention]) -> None:
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(width, eps=1e-6), attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Dropout(0.1),
                                 nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class VisionTransformer(nn.Module):
    """With a token of its own for the class, and positions."""

    def __init__(self, size: int = 32, width: int = 24, heads: int = 2, blocks: int = 4,
                 classes: int = 10, attention: type[Attention] = Attention) -> None:
        super().__init__()
        self.patch_embed = nn.Conv2d(3, width, 8, 8)
        self.cls_token = nn.Parameter(torch.randn(1, 1, width))
        self.pos_embed = nn.Parameter(torch.randn(1, (size // 8) ** 2 + 1, width) / 2)
        self.blocks = nn.ModuleList(TransformerBlock(width, heads, attention)
                                    for _ in range(blocks))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], dim=1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])


class EncoderTransformer(nn.Module):
    """Of torch's own encoder; its answer is the mean over tokens."""

    def __init__(self, size: int = 32, width: int = 24, heads: int = 2, layers: int = 2,
                 classes: int = 10) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, width, 8, 8)
        self.positions = nn.Parameter(torch.randn(1, (size // 8) ** 2, width) / 2)
        layer = nn.TransformerEncoderLayer(width, heads, 2 * width, batch_first=True,
                                           activation='gelu', norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.embed(x).flatten(2).transpose(1, 2) + self.positions
        return self.head(self.encoder(tokens).mean(dim=1))


class PooledByAttention(nn.Module):
    """One query of its own asks all places of a map, by torch's multi-head attention."""

    def __init__(self, width: int = 16, classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 5, 4, 2), nn.GroupNorm(4, width),
                                  nn.GELU(approximate='tanh'))
        self.query = nn.Parameter(torch.randn(1, 1, width))
        self.attention = nn.MultiheadAttention(width, 4, batch_first=True)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        places = self.stem(x).flatten(2).transpose(1, 2)
        found, _ = self.attention(self.query.expand(len(x), -1, -1), places, places)
        return self.head(found.squeeze(1))


def eyes(features: int, act: type[nn.Module] = nn.ELU, pooled: tuple[int, int] = (3, 4)
         ) -> nn.Sequential:
    """
    Return the layers of a policy that look at an image.

    :param pooled: What maps of 6 x 8 become; torch alone knows pools whose windows overlap.
    """
    return nn.Sequential(
        nn.Conv2d(3, 8, 5, 2, 2), act(), nn.Conv2d(8, 16, 3, 2, 1), act(),
        nn.Conv2d(16, 16, 3, 2, 1), act(), nn.AdaptiveAvgPool2d(pooled), nn.Flatten(),
        nn.Linear(16 * pooled[0] * pooled[1], features), nn.Tanh())


class CellPolicy(nn.Module):
    """Its state is an input and an output: (image, h) to (command, h')."""

    def __init__(self, features: int = 16, memory: int = 12) -> None:
        super().__init__()
        self.eyes, self.cell = eyes(features), nn.GRUCell(features, memory)
        self.head = nn.Linear(memory, 2)

    def forward(self, image: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        h = self.cell(self.eyes(image), h)
        return torch.tanh(self.head(h)), h


class BufferPolicy(nn.Module):
    """It keeps its state itself, in a buffer that forward overwrites."""

    def __init__(self, features: int = 16, memory: int = 12) -> None:
        super().__init__()
        self.eyes, self.cell = eyes(features, nn.ReLU, (4, 3)), nn.GRUCell(features, memory)
        self.register_buffer('memory', torch.zeros(1, memory))
        self.head = nn.Linear(memory, 2)

    def forward(self, image: Tensor) -> Tensor:
        self.memory.copy_(self.cell(self.eyes(image), self.memory))
        return self.head(self.memory)


class GruPolicy(nn.Module):
    """Of torch's GRU with two layers, whose state is (layers, batch, features)."""

    def __init__(self, features: int = 16, memory: int = 12) -> None:
        super().__init__()
        self.eyes = eyes(features)
        self.gru = nn.GRU(features, memory, num_layers=2, batch_first=True)
        self.head = nn.Linear(memory, 2)

    def forward(self, image: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        out, h = self.gru(self.eyes(image).unsqueeze(1), h)
        return self.head(out[:, -1]), h


class LstmPolicy(nn.Module):
    def __init__(self, features: int = 16, memory: int = 12) -> None:
        super().__init__()
        self.eyes = eyes(features)
        self.lstm = nn.LSTM(features, memory, batch_first=True)
        self.head = nn.Linear(memory, 2)

    def forward(self, image: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        out, (h, c) = self.lstm(self.eyes(image).unsqueeze(1), (h, c))
        return self.head(out[:, -1]), h, c


class NatureCnn(nn.Module):
    """The first layers of many a learner of games, of pixels from 0 to 255."""

    def __init__(self, channels: int = 4, actions: int = 6) -> None:
        super().__init__()
        self.cnn = nn.Sequential(
            nn.Conv2d(channels, 8, 8, 4), nn.ReLU(), nn.Conv2d(8, 16, 4, 2), nn.ReLU(),
            nn.Conv2d(16, 16, 3, 1), nn.ReLU(), nn.Flatten())
        self.linear = nn.Sequential(nn.Linear(16 * 4 * 4, 64), nn.ReLU())
        self.action = nn.Linear(64, actions)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.action(self.linear(self.cnn(pixels / 255.0)))
