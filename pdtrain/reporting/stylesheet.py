"""The look of the report: one column on a phone, light or dark as the reader's device is."""

CSS = """
:root{--paper:#fcfcfa;--panel:#fff;--ink:#1f2328;--soft:#626a73;--rule:#e2e2dc;
--base:#8b929a;--teacher:#3b6fb6;--adapter:#c2571a;--yes:#2e7d4f;--no:#b3382c}
@media (prefers-color-scheme:dark){:root{--paper:#15181c;--panel:#1c2026;--ink:#e6e8ea;
--soft:#9aa3ad;--rule:#30363d;--base:#8d96a0;--teacher:#7aa7e8;--adapter:#f0935a;
--yes:#6cc08b;--no:#f08a7d}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.55 system-ui,-apple-system,
"Segoe UI",Roboto,"Noto Sans","DejaVu Sans",sans-serif}
main{max-width:66rem;margin:0 auto;padding:1.5rem 1rem}
section,header{margin:0 0 3rem}
h1{font-size:1.9rem;line-height:1.2;margin:.5rem 0 .75rem;letter-spacing:-.01em}
h2{font-size:1.25rem;margin:0 0 .75rem;padding-top:.75rem;border-top:1px solid var(--rule)}
h3{font-size:.95rem;margin:1.75rem 0 .5rem;color:var(--soft);font-weight:600}
h4{font-size:1rem;margin:0 0 .15rem;font-weight:600}
p{margin:0 0 .75rem;max-width:42rem}
h1,h3,h4,dd,th,td,li,summary{overflow-wrap:anywhere}
.pair+.small,.trio+.small{margin-top:.9rem}
.small,footer{font-size:.84rem;color:var(--soft)}
.note{border-left:3px solid var(--adapter);padding:.4rem .8rem;background:var(--panel)}
.none{color:var(--soft)}
footer{max-width:66rem;margin:0 auto;padding:0 1rem 2rem}
code{font-family:ui-monospace,"DejaVu Sans Mono",monospace;font-size:.9em}

.tiles{display:grid;grid-template-columns:repeat(2,1fr);gap:.6rem;margin:1rem 0}
.tile{background:var(--panel);border:1px solid var(--rule);border-top:3px solid var(--ink);
border-radius:6px;padding:.6rem .8rem}
.tile b{display:block;font-size:1.9rem;line-height:1.2;font-variant-numeric:tabular-nums}
.tile span{font-size:.84rem;color:var(--soft)}
.tile.base{border-top-color:var(--base)}
.tile.adapter{border-top-color:var(--adapter)}.tile.adapter b{color:var(--adapter)}
.tile.teacher{border-top-color:var(--teacher)}

.pair,.trio{display:grid;align-items:start;gap:1.75rem 2.5rem;grid-template-columns:minmax(0,1fr)}
.tight{row-gap:.5rem}
table{border-collapse:collapse;width:100%;font-size:.9rem}
caption{text-align:left;padding:0 0 .35rem;color:var(--soft);font-size:.84rem}
caption b,figcaption b{color:var(--ink);font-size:.95rem}
th{font-weight:400;text-align:left}
th,td{padding:.2rem 0;vertical-align:middle}
.pair th{white-space:nowrap;padding-right:.6rem}.pair td:nth-child(2){width:99%}
.num{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}
.num span,th span,summary span{color:var(--soft);font-size:.84rem}
figure{margin:0}
figcaption{font-size:.84rem;color:var(--soft);margin-bottom:.25rem}
svg{display:block;width:100%;height:auto;overflow:visible}
svg.bar{height:14px;padding:0 .5rem 0 0}
svg text{font-size:11px;fill:var(--soft);font-family:inherit}
svg .end{text-anchor:end}svg .mid{text-anchor:middle}
.grid{stroke:var(--rule);fill:none;vector-effect:non-scaling-stroke}
.line{fill:none;stroke-width:2;stroke-linejoin:round;vector-effect:non-scaling-stroke}
.line.base{stroke:var(--base)}.line.teacher{stroke:var(--teacher)}
.line.adapter{stroke:var(--adapter)}.line.raw{stroke-width:1;opacity:.3}
.line.ref{stroke:var(--teacher);stroke-dasharray:5 4;stroke-width:1.5}
.whisker{stroke:var(--ink);stroke-width:1;fill:none;vector-effect:non-scaling-stroke}
.dots{position:relative;height:16px;margin:0 .6rem;
background:linear-gradient(var(--rule),var(--rule)) 0 50%/100% 1px no-repeat}
.dots i{position:absolute;top:3px;width:10px;height:10px;margin-left:-5px;border-radius:50%;
background:var(--mine)}
.dots .span{top:7px;height:2px;margin:0;border-radius:0;background:var(--soft)}
.base{--mine:var(--base)}.teacher{--mine:var(--teacher)}.adapter{--mine:var(--adapter)}
.fill,.dot{fill:var(--mine)}.fill.faint{opacity:.5}
.empty{fill:none;stroke:var(--no);stroke-width:1}
.recall{max-width:48rem}.recall th{width:38%;padding-right:.75rem;line-height:1.3}
.recall .num{width:5.6rem}
.three span{display:inline-block;min-width:1.7rem}
.three .ink{color:var(--mine);font-size:.9rem}
.recall tr,.config tr{border-bottom:1px solid var(--rule)}
.key{white-space:nowrap;margin-right:.9rem}
.key::before{content:"";display:inline-block;width:.65rem;height:.65rem;border-radius:50%;
background:var(--mine);margin-right:.35rem}
.kinds th{width:9rem}.kinds .num{width:4rem}.kinds .whisker{display:none}
summary{cursor:pointer}details{margin-bottom:.75rem}
details.document summary{list-style:none}
details.document summary::-webkit-details-marker{display:none}
details.document summary b::before{content:"▸ ";color:var(--soft);font-weight:400}
details.document[open] summary b::before{content:"▾ "}
details p,details ul{font-size:.9rem;margin:.5rem 0}
details ul{padding-left:1.1rem}
svg.strip{width:auto;max-width:100%;margin:.35rem 0 0}

.filtered>input{position:absolute;opacity:0;pointer-events:none}
.filtered nav{position:sticky;top:0;z-index:1;display:flex;flex-wrap:wrap;gap:.4rem;
padding:.5rem 0;background:var(--paper)}
.filtered label{border:1px solid var(--rule);border-radius:99px;padding:.2rem .75rem;
font-size:.84rem;cursor:pointer;background:var(--panel)}
.filtered label span{opacity:.65;font-variant-numeric:tabular-nums}
.filtered input:focus-visible~nav{outline:2px solid var(--teacher);outline-offset:2px}
article{background:var(--panel);border:1px solid var(--rule);border-radius:6px;
padding:.75rem .9rem;margin:0 0 .6rem}
.gold{color:var(--soft);font-size:.9rem;margin:0 0 .5rem}
.gold::before{content:"gold: "}
dl{margin:0;display:grid;gap:.5rem;grid-template-columns:minmax(0,1fr)}
article dl>div{border-left:3px solid var(--mine);padding-left:.65rem}
dt{font-size:.8rem;color:var(--soft)}
dd{margin:0;font-size:.93rem;line-height:1.4;white-space:pre-line}
.yes{color:var(--yes)}.no{color:var(--no)}
.sizes{grid-template-columns:repeat(2,minmax(0,1fr))}
.sizes dd{font-size:1.15rem;font-variant-numeric:tabular-nums}
.config th{width:45%;padding-right:1rem;color:var(--soft)}
.config td{white-space:pre-line}
.changed td,.changed th{font-weight:600;color:var(--ink)}

@media (min-width:44rem){
main{padding:2.5rem 2rem}footer{padding:0 2rem 2rem}
h1{font-size:2.3rem}
.tiles{grid-template-columns:repeat(4,1fr)}
.pair,.trio{grid-template-columns:repeat(2,minmax(0,1fr))}
article dl{grid-template-columns:repeat(3,minmax(0,1fr));gap:1rem}
.sizes{grid-template-columns:repeat(4,minmax(0,1fr))}
}
@media (min-width:64rem){.trio{grid-template-columns:repeat(3,minmax(0,1fr))}}
@media print{.filtered nav{display:none}article{break-inside:avoid}}
"""
