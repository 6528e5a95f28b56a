"""The report's style sheet; everything that the page needs is in the page."""

from __future__ import annotations

STYLE = """
:root { --ink: #1b2430; --quiet: #5b6675; --line: #e2e6ec; --paper: #ffffff; --wash: #f6f8fa; --ours: #0b62d6;
  --good: #067647; --good-wash: #e7f6ee; --bad: #b42318; --bad-wash: #fdeceb; --open-wash: #eef1f5; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ef; --quiet: #a3adbb; --line: #2c3441; --paper: #12161d; --wash: #1a202a;
    --ours: #6aa8ff; --good: #6bd6a0; --good-wash: #12301f; --bad: #ff9a91; --bad-wash: #3a1816;
    --open-wash: #262e3a; }
}
* { box-sizing: border-box; }
html { scroll-behavior: smooth; scroll-padding-top: 1rem; }
body { margin: 0; background: var(--paper); color: var(--ink); display: grid;
  grid-template-columns: 15rem minmax(0, 1fr);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
nav { position: sticky; top: 0; align-self: start; height: 100vh; overflow: auto; padding: 2rem 1.25rem;
  border-right: 1px solid var(--line); font-size: .9rem; }
nav a { display: block; padding: .3rem 0; color: var(--quiet); text-decoration: none; }
nav a:hover, nav a:focus-visible { color: var(--ours); }
main { padding: 2rem 2.5rem 4rem; max-width: 74rem; width: 100%; }
h1 { font-size: 2rem; line-height: 1.2; margin: 0 0 .75rem; letter-spacing: -.01em; }
h2 { font-size: 1.3rem; margin: 3rem 0 .6rem; padding-top: 1rem; border-top: 1px solid var(--line); }
p { max-width: 46rem; }
.facts { display: flex; gap: 1rem; flex-wrap: wrap; margin: 1.25rem 0; }
.fact { background: var(--wash); border: 1px solid var(--line); border-radius: .6rem; padding: .7rem 1.1rem; }
.fact b { display: block; font-size: 1.35rem; font-variant-numeric: tabular-nums; }
.fact span { color: var(--quiet); font-size: .85rem; }
.scroll { overflow-x: auto; margin: 1rem 0 1.5rem; border: 1px solid var(--line); border-radius: .6rem; }
table { border-collapse: collapse; width: 100%; font-size: .875rem; font-variant-numeric: tabular-nums; }
th { background: var(--wash); color: var(--quiet); font-weight: 600; }
th, td { padding: .45rem .75rem; border-bottom: 1px solid var(--line); vertical-align: top; }
tbody tr:last-child td { border-bottom: 0; }
tbody tr:hover { background: var(--wash); }
.left { text-align: left; }
.number { text-align: right; white-space: nowrap; }
.prose { min-width: 12rem; }
.note { color: var(--quiet); font-size: .8rem; line-height: 1.4; max-width: 34rem; margin-top: .15rem; }
tr.ours td:first-child { color: var(--ours); font-weight: 650; }
.badge { display: inline-block; padding: .1rem .55rem; border-radius: 1rem; font-size: .8rem;
  font-weight: 600; white-space: nowrap; }
.badge.good { color: var(--good); background: var(--good-wash); }
.badge.bad { color: var(--bad); background: var(--bad-wash); }
.badge.open { color: var(--quiet); background: var(--open-wash); }
figure { margin: 1.5rem 0 2.25rem; }
figure img { max-width: 100%; height: auto; display: block; }
figcaption { color: var(--quiet); font-size: .875rem; max-width: 52rem; margin-top: .5rem; }
figcaption b { color: var(--ink); }
@media (max-width: 60rem) {
  body { grid-template-columns: minmax(0, 1fr); }
  nav { position: static; height: auto; border-right: 0; border-bottom: 1px solid var(--line);
    padding: 1rem 1.25rem; columns: 2; }
  main { padding: 1.25rem; }
}
@media print { nav { display: none; } body { display: block; } .scroll { overflow: visible; } }
"""
