"""The look of the page: one style sheet, light and dark, for a screen of any width and for paper."""

from __future__ import annotations

from typing import Final

__all__ = ["POLICY", "STYLE_SHEET"]

POLICY: Final = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"

STYLE_SHEET: Final = """
:root {
  color-scheme: light dark;
  --paper: #f6f7f9; --card: #ffffff; --ink: #18212f; --muted: #5b6675; --line: #e1e5eb; --tint: #f1f4f9;
  --accent: #1d5fd1; --on-accent: #ffffff; --up: #0f7b4f; --down: #b3261e; --mark: #eaf1fd;
  --series-1: #1d5fd1; --series-2: #0e8f83; --series-3: #c2680a; --series-4: #7a3fd0; --series-5: #6b7787;
  --series-6: #c0327a; --series-7: #8a6d1f;
  --font: system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Noto Sans CJK SC", "PingFang SC",
    "Microsoft YaHei", sans-serif;
  --mono: ui-monospace, "SF Mono", Menlo, Consolas, "Noto Sans Mono CJK SC", monospace;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #10151d; --card: #18202b; --ink: #e7ecf3; --muted: #9aa6b6; --line: #2b3645; --tint: #1f2936;
    --accent: #7db0ff; --on-accent: #0c1422; --up: #57d39b; --down: #ff8f85; --mark: #1c2c45;
    --series-1: #7db0ff; --series-2: #3fd0c0; --series-3: #f0a347; --series-4: #bb94ff; --series-5: #98a5b6;
    --series-6: #f27db5; --series-7: #d8bb62;
  }
}
* { box-sizing: border-box; }
html { scroll-behavior: smooth; -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 var(--font); }
main, header > div, footer > div { max-width: 1120px; margin: 0 auto; padding: 0 20px; }
header { background: var(--card); border-bottom: 1px solid var(--line); padding: 34px 0 0; }
.brand { font-size: 13px; letter-spacing: .06em; color: var(--muted); margin: 0 0 6px; }
h1 { font-size: clamp(26px, 4.5vw, 38px); line-height: 1.15; margin: 0 0 12px; letter-spacing: -.015em; }
.lead { font-size: clamp(17px, 2.2vw, 20px); line-height: 1.5; max-width: 62ch; margin: 0 0 22px; }
nav { display: flex; gap: 4px 20px; flex-wrap: wrap; padding: 12px 0 14px;
  border-top: 1px solid var(--line); }
nav a { color: var(--muted); text-decoration: none; font-size: 14px; padding: 2px 0; }
nav a:hover { color: var(--accent); text-decoration: underline; }
main { padding-top: 24px; padding-bottom: 30px; }
section { margin: 0 0 44px; scroll-margin-top: 12px; }
h2 { font-size: 23px; margin: 0 0 6px; letter-spacing: -.01em; }
h3 { font-size: 16px; margin: 26px 0 8px; }
p { margin: 0 0 14px; max-width: 76ch; }
.note, figcaption, caption { color: var(--muted); font-size: 14px; }
.cards { display: grid; gap: 14px; grid-template-columns: repeat(auto-fit, minmax(225px, 1fr));
  margin: 0 0 22px; }
.card, .panel, .sample { background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
.card { padding: 16px 18px; }
.card .what { color: var(--muted); font-size: 14px; }
.card small { font-size: 15px; font-weight: 500; letter-spacing: 0; color: var(--muted); }
.card .value { font-size: 31px; font-weight: 650; line-height: 1.25; letter-spacing: -.02em; }
.card .more { color: var(--muted); font-size: 14px; line-height: 1.45; margin-top: 4px; }
.facts { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 16px 18px;
  display: grid; grid-template-columns: repeat(auto-fit, minmax(210px, 1fr)); gap: 10px 24px; margin: 0; }
.facts div { min-width: 0; } .facts .wide { grid-column: 1 / -1; }
dt { color: var(--muted); font-size: 13px; } dd { margin: 0; overflow-wrap: anywhere; font-size: 15px; }
code, .mono { font-family: var(--mono); font-size: .88em; overflow-wrap: anywhere; }
.plots { display: grid; gap: 14px; grid-template-columns: repeat(auto-fit, minmax(min(100%, 340px), 1fr));
  margin: 16px 0; }
.tall { grid-row: span 2; } .duo { display: grid; gap: 14px;
  grid-template-columns: minmax(300px, 4fr) minmax(0, 7fr); }
.duo .plots, .duo .scroll { margin: 0; } .duo .panel { height: 100%; }
figure { margin: 0; } .panel { padding: 14px 14px 8px; }
.panel svg { display: block; width: 100%; max-width: 560px; height: auto; margin: 0 auto; }
figcaption { padding: 6px 4px 6px; line-height: 1.45; }
.scroll { overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  margin: 14px 0; }
table { border-collapse: collapse; width: 100%; font-size: 14.5px; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding: 10px 14px 0; }
th, td { padding: 9px 14px; text-align: right; white-space: nowrap; border-top: 1px solid var(--line); }
thead th { border-top: 0; color: var(--muted); font-weight: 500; font-size: 13px; vertical-align: bottom;
  white-space: normal; min-width: 62px; line-height: 1.3; }
tbody th, thead th:first-child { text-align: left; font-weight: 600; }
.strong { background: var(--mark); }
.sub { display: block; color: var(--muted); font-size: 12.5px; font-weight: 400; line-height: 1.35; }
tbody th .sub { white-space: normal; min-width: 150px; max-width: 240px; }
.up { color: var(--up); font-weight: 600; } .down { color: var(--down); font-weight: 600; }
.flat { color: var(--muted); }
.sample { padding: 16px; margin: 14px 0; display: grid; gap: 0 16px;
  grid-template-columns: 132px minmax(0, 1fr);
  grid-template-rows: auto 1fr; }
.sample > :first-child { grid-row: span 2; }
.sample.text { grid-template-columns: minmax(0, 1fr); } .sample.text > :first-child { grid-row: auto; }
.sample .question { font-weight: 600; margin: 0 0 4px; max-width: none; }
.answers { display: grid; gap: 10px;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 190px), 1fr)); margin-top: 10px; }
.answer { background: var(--tint); border-radius: 8px; padding: 10px 12px; font-size: 14.5px;
  line-height: 1.45; }
.answer .who { display: flex; justify-content: space-between; gap: 8px; font-size: 12.5px;
  color: var(--muted);
  margin-bottom: 4px; }
.said { white-space: pre-wrap; overflow-wrap: anywhere; unicode-bidi: isolate; }
.thumb { display: block; width: 100%; height: auto; border-radius: 8px; background: var(--tint); }
.missing { display: grid; place-items: center; aspect-ratio: 1; text-align: center; color: var(--muted);
  font-size: 12px;
  border: 1px dashed var(--line); border-radius: 8px; padding: 8px; overflow-wrap: anywhere; }
.errors { display: grid; gap: 14px; grid-template-columns: repeat(auto-fill, minmax(min(46%, 196px), 1fr));
  margin: 16px 0; }
.errors figure { padding: 10px; } .errors figcaption { color: var(--ink); padding: 8px 2px 2px;
  font-size: 13.5px; }
.rank { color: var(--muted); } .errors .said { color: var(--muted); display: block; margin-top: 4px; }
ul { padding-left: 20px; margin: 8px 0; max-width: 80ch; } li { margin: 5px 0; }
footer { border-top: 1px solid var(--line); padding: 18px 0 30px; color: var(--muted); font-size: 13.5px; }
@media (max-width: 900px) { .duo { grid-template-columns: minmax(0, 1fr); } }
@media (max-width: 560px) {
  body { font-size: 15.5px; } main, header > div, footer > div { padding-left: 14px; padding-right: 14px; }
  .facts { grid-template-columns: repeat(2, minmax(0, 1fr)); } .facts div:first-child { grid-column: 1 / -1; }
  .sample { grid-template-columns: 84px minmax(0, 1fr); } .sample > :first-child { grid-row: auto; }
  .sample .answers { grid-column: 1 / -1; } .sample .missing { aspect-ratio: auto; font-size: 10px; }
  tbody th, thead th:first-child { position: sticky; left: 0; background: var(--card);
  border-right: 1px solid var(--line); }
  .strong th { background: var(--mark); } tbody th .sub { min-width: 84px; max-width: 104px; }
  th, td { padding: 8px 10px; }
  .errors { grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 10px; }
}
@media print {
  body { background: #fff; } nav { display: none; } .sample, .panel, .card, tr { break-inside: avoid; }
}
"""
