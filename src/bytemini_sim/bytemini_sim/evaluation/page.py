"""`report.html`: one file that explains an evaluation on a phone or a desk, without a network."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from bytemini_sim.evaluation.records import EvalReport, Record, summary
from bytemini_sim.evaluation.statistics import Comparison
from bytemini_sim.results.report import wilson_interval

MOST_ROWS = 300
"""Episodes in the table of a report; failures come first."""

_STYLE = """
:root{--ink:#1c2126;--dim:#5b6670;--line:#d9dee3;--card:#fff;--back:#f3f5f7;--good:#00785a;--bad:#b33c00;--bar:#2f7fb8}
@media(prefers-color-scheme:dark){:root{--ink:#e8ebee;--dim:#9aa5b0;--line:#39424b;--card:#20262c;--back:#15191d;
--good:#35c79d;--bad:#ff9b61;--bar:#5aaee8}}
*{box-sizing:border-box}body{margin:0;background:var(--back);color:var(--ink);
font:16px/1.45 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1080px;margin:0 auto;padding:12px}h1{font-size:1.45rem;margin:.6rem 0 .2rem}
h2{font-size:1.15rem;margin:0 0 .5rem}h3{font-size:1rem;margin:.9rem 0 .3rem}
p{margin:.3rem 0}.dim{color:var(--dim);font-size:.87rem;overflow-wrap:anywhere}
section{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:12px 14px;margin:12px 0}
.big{font-size:1.9rem;font-weight:650;line-height:1.15}.grid{display:grid;gap:10px;
grid-template-columns:repeat(auto-fit,minmax(150px,1fr))}.good{color:var(--good)}.bad{color:var(--bad)}
.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:.87rem}
th,td{text-align:left;padding:4px 8px 4px 0;border-bottom:1px solid var(--line);vertical-align:top}
th{color:var(--dim);font-weight:600}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
.row{display:grid;grid-template-columns:minmax(90px,34%) 1fr auto;gap:8px;align-items:center;font-size:.87rem;
margin:3px 0;overflow-wrap:anywhere}
.row>*{min-width:0}.track{background:var(--line);border-radius:4px;height:14px;position:relative;overflow:hidden}
.fill{background:var(--bar);height:100%}.whisker{position:absolute;top:4px;height:6px;background:var(--ink);opacity:.55;
border-radius:3px}video{width:100%;border-radius:8px;background:#000}figure{margin:0}figcaption{font-size:.87rem}
details>summary{cursor:pointer;font-weight:600;padding:4px 0}pre{white-space:pre-wrap;font-size:.78rem;
overflow-wrap:anywhere}.films{display:grid;gap:12px;grid-template-columns:repeat(auto-fit,minmax(280px,1fr))}
"""


@dataclass(frozen=True)
class Film:
    """An episode as MP4; `same`: filming it again gave the same trajectory to the bit."""

    record: Record
    mp4: bytes
    same: bool


def page(
    reports: Sequence[EvalReport],
    comparisons: Sequence[tuple[str, str, str, Comparison]],
    films: Mapping[str, Sequence[Film]],
) -> str:
    """The whole page.

    Args:
        reports: one per policy.
        comparisons: (setting, first, second, what came of it).
        films: per policy.
    """
    first = reports[0]
    title = f"{first.suite}: {', '.join(report.policy for report in reports)}"
    body = [f"<h1>{escape(title)}</h1>", _lead(reports)]
    if comparisons:
        body.append(_compared(comparisons))
    for report in reports:
        if len(reports) > 1:
            body.append(f"<h1>{escape(report.policy)}</h1>")
        body += [_setting(report, setting) for setting in report.settings()]
        body.append(_films(films.get(report.policy, ())))
        body.append(_episodes(report))
    body.append(_provenance(reports))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body><main>{''.join(body)}</main></body></html>\n"
    )


def _lead(reports: Sequence[EvalReport]) -> str:
    first = reports[0]
    words = f"{sum(len(r.records) for r in reports)} episodes on {first.robot}, seeds from {first.seed}, "
    words += f"{first.latency * 1000:.0f} ms from observation to chunk. Scored by physics, not by the policy's word."
    return f'<p class="dim">{escape(words)}</p>'


def _percent(value: float) -> str:
    return f"{100 * value:.1f}".rstrip("0").rstrip(".") + " %"


def _setting(report: EvalReport, setting: str) -> str:
    records = report.of(setting)
    s = summary(records)
    n = s["episodes"]
    parts = [f"<section><h2>{escape(setting)}</h2>", '<div class="grid">']
    parts.append(_figure("success", s["successes"], n, s["success_ci95"]))
    parts.append(_figure("instruction following", s["instruction_following"], n, s["instruction_following_ci95"]))
    if s["goals"] > n:
        low, high = wilson_interval(s["goals_done"], s["goals"])
        parts.append(_figure("things brought", s["goals_done"], s["goals"], (low, high)))
    low, high = s["progress"]["ci95"]
    parts.append(
        f'<div><div class="big">{s["progress"]["mean"]:.3f}</div>mean progress'
        f'<p class="dim">95 % by bootstrap: {low:.3f} to {high:.3f}</p></div></div>'
    )
    above = s["posterior_above"]
    parts.append(
        f'<p class="dim">Probability that the true success rate is above {_percent(above["target"])}, after these '
        f"episodes (uniform prior): {_percent(above['probability'])}</p>"
    )
    parts += [_groups(records), _funnel(s, records), _failures(s, n), _status(s, records), _motion(records, s)]
    return "".join(parts) + "</section>"


def _figure(name: str, k: int, n: int, interval: Sequence[float]) -> str:
    return (
        f'<div><div class="big">{k}/{n}</div>{escape(name)}, {_percent(k / n if n else 0)}'
        f'<p class="dim">95 % (Wilson): {_percent(interval[0])} to {_percent(interval[1])}</p></div>'
    )


def _bar(name: str, k: int, n: int, interval: tuple[float, float] | None = None, words: str = "") -> str:
    share = 100 * k / n if n else 0
    whisker = ""
    if interval:
        low, high = interval
        whisker = f'<div class="whisker" style="left:{100 * low:.1f}%;width:{100 * (high - low):.1f}%"></div>'
    return (
        f'<div class="row"><span>{escape(name)}</span><div class="track"><div class="fill" style="width:{share:.1f}%">'
        f"</div>{whisker}</div><span>{escape(words or f'{k}/{n}')}</span></div>"
    )


def _groups(records: Sequence[Record]) -> str:
    names = sorted({record.group for record in records if record.group}, key=lambda name: (len(name), name))
    if len(names) < 2:
        return ""
    rows = []
    for name in names:
        these = [record for record in records if record.group == name]
        k = sum(record.result.success for record in these)
        rows.append(_bar(name, k, len(these), wilson_interval(k, len(these))))
    return f"<h3>Success by group</h3>{''.join(rows)}<p class='dim'>Dark: 95 % Wilson interval.</p>"


def _funnel(s: Mapping[str, Any], records: Sequence[Record]) -> str:
    n = sum(record.valid for record in records)
    if not s["milestones"] or not n:
        return ""
    rows, before = [], n
    for name, k in s["milestones"].items():
        passed = f"{k}/{n}, {_percent(k / before)}" if before else f"{k}/{n}"
        rows.append(_bar(name, k, n, None, passed))
        before = k
    return (
        f"<h3>Milestones reached</h3>{''.join(rows)}<p class='dim'>Per cent: of those that reached the one before.</p>"
    )


def _failures(s: Mapping[str, Any], n: int) -> str:
    if not s["failures"]:
        return '<h3>Failures</h3><p class="good">none</p>'
    return "<h3>Failures</h3>" + "".join(_bar(label, count, n) for label, count in s["failures"].items())


def _status(s: Mapping[str, Any], records: Sequence[Record]) -> str:
    status = s["status"]
    valid = sum(record.valid for record in records)
    invalid = len(records) - valid
    words = []
    if invalid:
        words.append(f"refused {status['true_refusals']}/{invalid} invalid instructions")
    if valid:
        words.append(f"refused {status['false_refusals']}/{valid} valid ones")
        words.append(f"done and said so {status['done_and_said_so']}")
        words.append(f"said done too early {status['said_done_too_early']}")
        words.append(f"done but never said so {status['done_but_never_said_so']}")
    if status["mean_seconds_from_done_to_word"] is not None:
        words.append(f"{status['mean_seconds_from_done_to_word']:.1f} s from done to its word on average")
    return f"<h3>The policy's own word</h3><p>{escape('; '.join(words))}.</p>"


def _motion(records: Sequence[Record], s: Mapping[str, Any]) -> str:
    def spread(values: list[float]) -> str:
        if not values:
            return "none"
        middle, high = np.percentile(values, [50, 95])
        return f"median {middle:.3g}, 95 % below {high:.3g}, largest {max(values):.3g}"

    jerk = spread([record.result.max_joint_jerk for record in records])
    measured = spread([record.max_measured_jerk for record in records])
    latency = spread([record.inference_ms for record in records])
    rows = (
        ("time per chunk, ms", latency),
        ("largest commanded joint jerk, rad/s³", jerk),
        ("largest measured joint jerk, rad/s³", measured),
        ("simulated time, s", spread([record.result.sim_seconds for record in records])),
        ("limit violations", str(s["limit_violations"])),
        ("unwanted contacts", str(s["collisions"])),
    )
    cells = "".join(f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in rows)
    return f'<h3>Latency and smoothness</h3><div class="scroll"><table>{cells}</table></div>'


def _compared(comparisons: Sequence[tuple[str, str, str, Comparison]]) -> str:
    parts = ["<section><h2>Comparison on the same seeds</h2>"]
    for setting, first, second, found in comparisons:
        middle, low, high = found.difference
        better = "no difference shown"
        if found.p_value < 0.05:
            better = f"{first if found.only_first > found.only_second else second} is better"
        parts.append(
            f"<h3>{escape(setting)}: {escape(first)} against {escape(second)}</h3><p><b>{escape(better)}</b> "
            f"(exact McNemar p = {found.p_value:.3g}; always-valid sequential p = {found.sequential_p:.3g})</p>"
            f"{_bar('both', found.both, found.pairs)}{_bar(f'only {first}', found.only_first, found.pairs)}"
            f"{_bar(f'only {second}', found.only_second, found.pairs)}"
            f'<p class="dim">Mean progress {middle:+.3f}, 95 % by paired bootstrap {low:+.3f} to {high:+.3f}, '
            f"{found.pairs} pairs. Several settings are several tests: of 20 at 5 % one errs.</p>"
        )
    return "".join(parts) + "</section>"


def _films(films: Sequence[Film]) -> str:
    if not films:
        return ""
    parts = ['<section><h2>Worst and best</h2><div class="films">']
    for film in films:
        result = film.record.result
        words = result.failure or f"success in {result.sim_seconds:.1f} s"
        kind = "good" if result.success else "bad"
        doubt = "" if film.same else " (filming it again did not give the same trajectory)"
        data = base64.b64encode(film.mp4).decode()
        parts.append(
            f'<figure><video controls playsinline preload="metadata" src="data:video/mp4;base64,{data}"></video>'
            f"<figcaption>{escape(result.setting)}, seed {result.seed}: {escape(result.instruction)}<br>"
            f'<span class="{kind}">{escape(words)}</span>{escape(doubt)}</figcaption></figure>'
        )
    return "".join(parts) + "</div></section>"


def _episodes(report: EvalReport) -> str:
    rows = sorted(report.records, key=lambda record: (record.result.success, record.key))
    head = "<tr><th>setting</th><th class=n>seed</th><th>instruction</th><th>outcome</th><th class=n>progress</th></tr>"
    cells = []
    for record in rows[:MOST_ROWS]:
        result = record.result
        kind = "good" if result.success else "bad"
        trace = f"<details><summary>trace</summary><pre>{escape(record.trace)}</pre></details>" if record.trace else ""
        cells.append(
            f"<tr><td>{escape(result.setting)}</td><td class=n>{result.seed}</td><td>{escape(result.instruction)}</td>"
            f'<td class="{kind}">{escape(result.failure or "success")}{trace}</td>'
            f"<td class=n>{result.progress:.2f}</td></tr>"
        )
    more = f"<p class=dim>{len(rows) - MOST_ROWS} more in report.json</p>" if len(rows) > MOST_ROWS else ""
    return (
        f"<section><details><summary>All {len(rows)} episodes</summary><div class=scroll><table>{head}{''.join(cells)}"
        f"</table></div>{more}</details></section>"
    )


def _provenance(reports: Sequence[EvalReport]) -> str:
    parts = ["<section><h2>How this was made</h2>"]
    for report in reports:
        stamp = ", ".join(f"{name} {value}" for name, value in report.stamp.to_dict().items())
        rate = 60 * len(report.records) / report.wall_seconds if report.wall_seconds else 0
        parts.append(
            f'<p class="dim">{escape(report.policy)}: {escape(stamp)}; {report.jobs} processes, {rate:.0f} episodes a '
            "minute. Every episode is in report.json; a seed repeats it to the bit on this machine and build.</p>"
        )
    return "".join(parts) + "</section>"
