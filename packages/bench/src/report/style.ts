import { COLOR_VARIABLES } from './charts/draw.js';

/** The style of the page. It loads no font and no image, and follows the reader's light or dark theme. */
export const STYLE = `
:root{color-scheme:light dark;${COLOR_VARIABLES.light}}
@media (prefers-color-scheme:dark){:root{${COLOR_VARIABLES.dark}}}
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;font-variant-numeric:tabular-nums}
main,header,footer{max-width:1384px;margin:0 auto;padding:0 24px}
header{padding-top:32px}
h1{font-size:1.7rem;line-height:1.2;margin:0 0 8px;text-wrap:balance}
h2{font-size:1.35rem;margin:48px 0 12px;overflow-wrap:anywhere}
h3{font-size:1.05rem;margin:28px 0 10px;overflow-wrap:anywhere}
p,ul{margin:0 0 12px}
.scope b{font-weight:500;color:var(--ink)}
.scope{display:flex;flex-wrap:wrap;gap:4px 20px;padding:0;margin:0 0 20px;list-style:none;color:var(--soft);overflow-wrap:anywhere}
.card,figure{background:var(--paper);border:1px solid var(--line);border-radius:10px;padding:16px 18px;margin:0}
.short{overflow-wrap:anywhere}
.short p{margin:0}
.short :is(p,details):not(:first-child){margin-top:10px}
.short details:first-child{margin-top:0}
.short summary{color:inherit}
.short ul{margin:0;padding-left:20px}
.grid{margin-top:16px;display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,392px),1fr));gap:16px;align-items:start}
.grid.small{grid-template-columns:repeat(auto-fit,minmax(min(100%,300px),1fr))}
figure svg{display:block;max-width:100%;height:auto;overflow:visible;margin:0 auto}
figure .legend svg{display:inline-block;margin:0 6px 0 0;vertical-align:-1px}
figcaption{margin:0 0 8px}
figcaption strong{display:block}
figcaption span,.note,small{color:var(--soft);font-size:.875rem}
.legend{display:flex;flex-wrap:wrap;gap:2px 16px;list-style:none;padding:0;margin:0 0 8px;font-size:.875rem}
figcaption:not(:first-child){margin-top:20px}
.scroll{overflow-x:auto}
.grid .wide{grid-column:1/-1}
.beside{display:grid;grid-template-columns:minmax(0,440px) minmax(0,1fr);gap:16px 32px;align-items:start}
.at-phone{display:none}
main>figure,main>figure+.card{margin-top:16px}
.pair{display:grid;grid-template-columns:auto minmax(0,1fr);gap:16px;align-items:start}
.part{margin-top:16px}
.part summary h3{display:inline;margin:0;color:var(--ink)}
.part>.card{margin-top:12px}
figure .card{border:0;border-radius:0;padding:0}
main>:is(.pair,.card)+.card{margin-top:16px}
.matrix{width:auto}
.matrix th,.matrix td,.overall th,.overall td{padding:5px 10px;white-space:nowrap;text-align:right}
.matrix tbody th,.overall tbody th{text-align:left;font-weight:500;position:sticky;left:0;background:var(--paper)}
.matrix .chosen{font-weight:650;box-shadow:inset 0 0 0 2px var(--strong)}
.overall .first{font-weight:650}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;padding:8px 14px 8px 0;vertical-align:top;border-top:1px solid var(--line)}
thead th{border:0;color:var(--soft);font-weight:500;font-size:.875rem;white-space:nowrap}
thead td{border:0}
td small{display:block;font-weight:400}
.stages th,.stages td{text-align:right;padding:5px 0 5px 16px;white-space:nowrap}
.stages thead th{white-space:normal;vertical-align:bottom}
.stages th:first-child,.stages td:first-child{text-align:left;padding-left:0}
th small{display:block}
@media (min-width:1300px){td:is(.score,.difference,.trained,.time) small{white-space:nowrap}}
.overall{width:100%}
.overall td small{white-space:nowrap}
.overall td small:first-of-type{display:inline}
tbody th[scope=rowgroup]{font-weight:600;padding-top:14px;overflow-wrap:anywhere}
td.best{font-weight:650}
.met{color:var(--good)}
.results .met small{display:none}
.missed{color:var(--bad);font-weight:600}
dl{display:grid;grid-template-columns:max-content 1fr;gap:6px 20px;margin:0}
dt{color:var(--soft)}
dd{margin:0;overflow-wrap:anywhere}
.notes{padding-left:20px;max-width:104ch}
details{margin-top:16px}
summary{cursor:pointer;color:var(--soft)}
details dl{margin-top:10px}
footer{padding:32px 24px 48px;color:var(--soft);font-size:.875rem}
@media (max-width:1000px){.pair,.beside{grid-template-columns:minmax(0,1fr)}}
@media (max-width:760px){
.at-desk{display:none}
.at-phone{display:block}
main,header,footer{padding-left:14px;padding-right:14px}
header{padding-top:20px}
.card,figure{padding:12px}
dl{grid-template-columns:1fr;gap:0}
dd{margin:0 0 8px}
.cards,.cards tbody,.cards tr,.cards td,.cards th[scope=rowgroup]{display:block}
.cards thead{display:none}
.cards tr{border-top:1px solid var(--line);padding:8px 0}
.cards td{border:0;padding:2px 0;display:grid;grid-template-columns:8.2em 1fr;gap:0 10px}
.cards td::before{content:attr(data-label);color:var(--soft);font-size:.875rem;font-weight:400;grid-row:span 2}
.cards td small{grid-column:2;white-space:normal}
.cards td:first-child{display:block;font-size:1.05rem;font-weight:650}
.cards td:first-child::before{content:none}
.cards th[scope=rowgroup]{border:0;padding:8px 0 0}
}
.results:not(.cards) td:first-child{position:sticky;left:0;background:var(--paper)}
@media print{details::details-content{content-visibility:visible;block-size:auto}body{background:none}.card,figure{break-inside:avoid}h2,h3{break-after:avoid}}
`.trim();
