"""Sizes of the model, as typed data that a checkpoint stores beside its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from gr3.layout import HORIZON
from gr3.views import FULL_VIEWS, TINY_VIEWS, View


@dataclass(frozen=True)
class VisionConfig:
    """The vision tower of Qwen2.5-VL.

    `stem`: widths of a convolutional stem that takes the place of the linear patch embedding, each layer halving the
    picture; empty for Qwen's own. A tower trained from scratch on little data learns far sooner with it.
    `stem_first`: stride of its first layer. `stem_residual`: one more convolution at each size but the first.
    `full_attention`: layers whose patches see the whole picture rather than their window of `window` pixels.
    """

    depth: int = 32
    hidden: int = 1280
    intermediate: int = 3420
    heads: int = 16
    patch: int = 14
    merge: int = 2
    window: int = 112
    full_attention: tuple[int, ...] = (7, 15, 23, 31)
    stem: tuple[int, ...] = ()
    stem_first: int = 2
    stem_residual: bool = False


@dataclass(frozen=True)
class TextConfig:
    """The language model of Qwen2.5-VL. `vocabulary`: rows of its embedding."""

    layers: int = 36
    hidden: int = 2048
    intermediate: int = 11008
    heads: int = 16
    kv_heads: int = 2
    vocabulary: int = 151936
    mrope: tuple[int, int, int] = (16, 24, 24)
    theta: float = 1e6
    tied: bool = True


@dataclass(frozen=True)
class ActionConfig:
    """The action DiT: half as many layers as the language model, of which it reads the latter half's KV cache.

    `norm`: RMSNorm after the linear layers inside attention and feed-forward (GR-3 report, section 2).
    `task_status`: predict the task status as an action dimension (section 3.1). Both off only for ablations.
    """

    hidden: int = 1024
    intermediate: int = 4096
    horizon: int = HORIZON
    norm: bool = True
    task_status: bool = True


@dataclass(frozen=True)
class ModelConfig:
    """A GR-3 model. Defaults: the full one, Qwen2.5-VL-3B and a DiT that bring it to about 4 B parameters.

    `views`: what of each camera's picture it sees, in the order in which the cameras come; `text_length`: tokens an
    instruction may have; `columns`, `state`: widths of an action row and of the state vector.
    """

    vision: VisionConfig = field(default_factory=VisionConfig)
    text: TextConfig = field(default_factory=TextConfig)
    action: ActionConfig = field(default_factory=ActionConfig)
    views: Mapping[str, View] = field(default_factory=lambda: dict(FULL_VIEWS))
    text_length: int = 48
    columns: int = 38
    state: int = 61

    def __post_init__(self) -> None:
        if self.text.layers % 2:
            raise ValueError(
                f"the language model has {self.text.layers} layers, expected an even number: the DiT "
                "reads the latter half"
            )
        unit = self.vision.patch * self.vision.merge
        for name, view in self.views.items():
            if view.size[0] % unit or view.size[1] % unit:
                raise ValueError(f"the view of {name} has {view.size} pixels, expected multiples of {unit}")
        if 2 * sum(self.text.mrope) * self.text.heads != self.text.hidden:
            raise ValueError(f"mrope sections {self.text.mrope} do not add up to half of a head's width")
        if self.vision.stem and self.vision.stem_first * 2 ** (len(self.vision.stem) - 1) != self.vision.patch:
            raise ValueError(f"a stem of {len(self.vision.stem)} layers does not make patches of {self.vision.patch}")

    @property
    def cameras(self) -> tuple[str, ...]:
        """The cameras, in order."""
        return tuple(self.views)

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ModelConfig:
        """From `to_dict` (tuples may have become lists).

        Raises:
            ValueError: an unknown key; names it.
        """
        parts = {"vision": VisionConfig, "text": TextConfig, "action": ActionConfig}
        values: dict[str, Any] = {}
        for key, value in data.items():
            if key in parts:
                values[key] = _build(parts[key], value, key)
            elif key == "views":
                values[key] = {name: View(tuple(v["crop"]), tuple(v["size"])) for name, v in value.items()}
            else:
                values[key] = value
        config: ModelConfig = _build(cls, values, "model")
        return config


def _build(kind: Any, data: Mapping[str, Any], where: str) -> Any:
    known = set(kind.__dataclass_fields__)
    unknown = sorted(set(data) - known)
    if unknown:
        raise ValueError(f"the {where} configuration has unknown {', '.join(unknown)}; there are {', '.join(known)}")
    return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in data.items()})


def tiny(vocabulary: int) -> ModelConfig:
    """The size of the bundled `gr3-tiny`: everything of the full model, small enough for two CPU threads."""
    return ModelConfig(
        vision=VisionConfig(
            depth=2,
            hidden=128,
            intermediate=320,
            heads=4,
            patch=16,
            merge=1,
            window=112,
            full_attention=(0, 1),
            stem=(32, 64, 96, 160),
            stem_first=2,
            stem_residual=True,
        ),
        text=TextConfig(
            layers=6,
            hidden=192,
            intermediate=448,
            heads=6,
            kv_heads=3,
            vocabulary=vocabulary,
            mrope=(4, 6, 6),
            theta=1e4,
        ),
        action=ActionConfig(hidden=192, intermediate=640),
        views=dict(TINY_VIEWS),
        text_length=32,
    )


def toy(
    vocabulary: int = 64, *, norm: bool = True, task_status: bool = True, views: Mapping[str, View] | None = None
) -> ModelConfig:
    """The smallest that still has every part, Qwen's own patch embedding and windows included; for tests."""
    view = View((0, 0, 32, 32), (16, 16))
    return ModelConfig(
        vision=VisionConfig(
            depth=2, hidden=16, intermediate=24, heads=2, patch=4, merge=2, window=8, full_attention=(1,)
        ),
        text=TextConfig(
            layers=4, hidden=32, intermediate=48, heads=4, kv_heads=2, vocabulary=vocabulary, mrope=(1, 1, 2), theta=1e4
        ),
        action=ActionConfig(hidden=24, intermediate=32, horizon=4, norm=norm, task_status=task_status),
        views=views or {"head": view, "left_wrist": view, "right_wrist": view},
        text_length=20,
    )
