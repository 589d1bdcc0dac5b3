"""One page that shows what a dataset holds: distributions, coverage of the plan, pictures, the worst episodes."""

from __future__ import annotations

import base64
import html
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from bytemini_data.check import Checked, configuration
from bytemini_data.features import IMAGE
from bytemini_data.lerobot.reader import Dataset
from bytemini_data.plan import FACTORS, Plan
from bytemini_data.quality import BOUNDS
from bytemini_data.schedule import Scheduler

MOST_THUMBNAILS = 48
THUMBNAIL = (120, 160)
"""Height and width, pixels."""

_COLORS = {"pass": "#00714F", "warn": "#B26A00", "fail": "#B03A00"}
_BAR, _WANTED = "#0072B2", "#D9D9D9"

_STYLE = """
body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:76rem;padding:0 1rem;color:#222}
h1{font-size:1.5rem;margin-bottom:.2rem}h2{font-size:1.15rem;margin-top:2rem}
.sub{color:#555}.tiles{display:flex;gap:1rem;flex-wrap:wrap;margin:1rem 0}
.tile{border:1px solid #ddd;border-radius:8px;padding:.6rem 1rem;min-width:7rem}
.tile b{display:block;font-size:1.5rem}
.row{display:flex;flex-wrap:wrap;gap:1.5rem}.thumbs{display:flex;flex-wrap:wrap;gap:.6rem}
figure{margin:0;width:162px}figure img{width:160px;height:120px;border:1px solid #ccc;border-radius:4px}
figcaption{font-size:12px;color:#444}
table{border-collapse:collapse}td,th{padding:.2rem .8rem .2rem 0;text-align:left;vertical-align:top}
td.n{text-align:right;font-variant-numeric:tabular-nums}
"""


def make_report(root: Path, checked: Sequence[Checked], plan: Plan | None = None) -> str:
    """The page, complete in itself.

    Args:
        root: the dataset's folder.
        checked: all of its episodes.
        plan: to show how far it is covered; None to leave that out.

    Raises:
        DatasetError: a picture cannot be decoded.
    """
    dataset = Dataset(root, cameras=[f"{IMAGE}head"], image_size=THUMBNAIL)
    fps = dataset.fps
    lengths = [item.row.length / fps for item in checked]
    verdicts = Counter(item.quality.verdict for item in checked)
    embodiments = Counter(str(item.row.fields.get("embodiment")) for item in checked)
    succeeded = sum(bool(item.row.fields.get("success")) for item in checked)
    tiles = [
        (str(len(checked)), "episodes"),
        (f"{sum(lengths) / 60:.1f} min", f"{sum(item.row.length for item in checked)} frames at {fps} Hz"),
        (f"{succeeded}", "succeeded"),
        *((str(verdicts[name]), f'<span style="color:{color}">{name}</span>') for name, color in _COLORS.items()),
    ]
    parts = [
        f"<h1>{html.escape(root.name)}</h1>",
        f'<p class="sub">{html.escape(dataset.schema.robot_type)}, {_words(embodiments)}</p>',
        '<div class="tiles">'
        + "".join(f'<div class="tile"><b>{big}</b>{small}</div>' for big, small in tiles)
        + "</div>",
        "<h2>Distributions</h2>",
        '<div class="row">',
        _histogram("length of episodes, s", lengths),
        *(
            _histogram(f"{name}: {BOUNDS[name].says}", [item.quality.measures[name] for item in checked])
            for name in _shown(checked)
        ),
        "</div>",
        "<h2>Tasks</h2>",
        _bars([(task, count, None) for task, count in Counter(item.row.task for item in checked).most_common(40)]),
    ]
    if plan is not None:
        parts += _coverage(plan, checked)
    parts += ["<h2>Worst episodes</h2>", _worst(checked), "<h2>Pictures</h2>", _thumbnails(dataset, checked)]
    body = "\n".join(parts)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(root.name)}</title>'
        f"<style>{_STYLE}</style></head><body>{body}</body></html>\n"
    )


def _shown(checked: Sequence[Checked]) -> list[str]:
    """Measures in which the episodes differ."""
    return [name for name in BOUNDS if len({item.quality.measures[name] for item in checked}) > 1]


def _words(counts: Counter[str]) -> str:
    return ", ".join(f"{count} of a {html.escape(name)}" for name, count in counts.items())


def _histogram(title: str, values: Sequence[float], bins: int = 20) -> str:
    counts, edges = np.histogram(values, bins)
    width, height, most = 300, 90, max(int(counts.max()), 1)
    step = width / bins
    bars = "".join(
        f'<rect x="{i * step + 1:.1f}" y="{height - height * n / most:.1f}" width="{step - 2:.1f}" '
        f'height="{height * n / most:.1f}" fill="{_BAR}">'
        f"<title>{n} from {edges[i]:.3g} to {edges[i + 1]:.3g}</title></rect>"
        for i, n in enumerate(counts.tolist())
    )
    text = html.escape(title if len(title) < 40 else f"{title[:38]}...")
    return (
        f'<svg width="{width}" height="{height + 40}" role="img" aria-label="{html.escape(title)}" font-size="12">'
        f'<text x="0" y="12">{text}</text><g transform="translate(0,18)">{bars}'
        f'<line x1="0" x2="{width}" y1="{height}" y2="{height}" stroke="#888"/>'
        f'<text x="0" y="{height + 16}">{edges[0]:.3g}</text>'
        f'<text x="{width}" y="{height + 16}" text-anchor="end">{edges[-1]:.3g}</text></g></svg>'
    )


def _bars(rows: Iterable[tuple[str, float, float | None]]) -> str:
    """Named bars; grey behind them what is wanted in all, where that is known."""
    rows = list(rows)
    most = max([max(count, wanted or 0) for _, count, wanted in rows] + [1])
    lines = []
    for name, count, wanted in rows:
        behind = f'<rect width="{300 * wanted / most:.1f}" height="16" fill="{_WANTED}"/>' if wanted is not None else ""
        bar = f'<rect y="3" width="{300 * count / most:.1f}" height="10" fill="{_BAR}"/>'
        told = f"{count:g}" if wanted is None else f"{count:g} of {wanted:.1f}"
        lines.append(
            f"<tr><td>{html.escape(name)}</td>"
            f'<td><svg width="304" height="16">{behind}{bar}</svg></td><td class="n">{told}</td></tr>'
        )
    return f"<table>{''.join(lines)}</table>"


def _coverage(plan: Plan, checked: Sequence[Checked]) -> list[str]:
    found = [configuration(item.row) for item in checked]
    scheduler = Scheduler(plan, [entry for entry in found if entry])
    parts = [
        f"<h2>Coverage of the plan: {html.escape(plan.name)}</h2>",
        f'<p class="sub">{scheduler.total} of {plan.episodes} episodes; total-variation distance to the target '
        f"{scheduler.distance():.3f}. Blue is there, grey is wanted.</p>",
    ]
    for factor in FACTORS:
        if len(plan.values[factor]) > 1:
            rows = [(value, float(count), wanted) for value, count, wanted in scheduler.progress(factor)]
            parts += [f"<h3>{factor}</h3>", _bars(rows)]
    return parts


def _worst(checked: Sequence[Checked], most: int = 20) -> str:
    bad = sorted((item for item in checked if item.quality.reasons), key=lambda item: item.quality.score)[:most]
    if not bad:
        return "<p>Nothing to complain about.</p>"
    rows = "".join(
        f'<tr><td class="n">{item.row.index}</td>'
        f'<td style="color:{_COLORS[item.quality.verdict]}">{item.quality.verdict}</td>'
        f"<td>{html.escape(item.row.task)}</td><td>{'<br>'.join(map(html.escape, item.quality.reasons))}</td></tr>"
        for item in bad
    )
    return f"<table><tr><th>episode</th><th>verdict</th><th>task</th><th>reasons</th></tr>{rows}</table>"


def _thumbnails(dataset: Dataset, checked: Sequence[Checked]) -> str:
    """The middle of each episode, of the worst first, then evenly."""
    order = sorted(range(len(checked)), key=lambda i: (checked[i].quality.score, i))
    chosen = sorted(order[: MOST_THUMBNAILS // 3] + order[MOST_THUMBNAILS // 3 :: max(1, len(order) // 32)])
    figures = []
    for place in list(dict.fromkeys(chosen))[:MOST_THUMBNAILS]:
        item, span = checked[place], dataset.span(place)
        picture = dataset[span[len(span) // 2]][f"{IMAGE}head"]
        stream = io.BytesIO()
        Image.fromarray(picture).save(stream, "JPEG", quality=75)
        data = base64.b64encode(stream.getvalue()).decode()
        color = _COLORS[item.quality.verdict]
        figures.append(
            f'<figure><img alt="episode {item.row.index}" src="data:image/jpeg;base64,{data}">'
            f'<figcaption><b style="color:{color}">{item.row.index}</b> '
            f"{html.escape(item.row.task)}</figcaption></figure>"
        )
    return f'<div class="thumbs">{"".join(figures)}</div>'
