/*
 * npx tsx --conditions @peftjs/source tools/publish/publish.ts RUN NAME [--chart FILE=DESCRIPTION].. [--archive ARCHIVE]
 *
 * Publishes a finished run: packs its result files into docs/benchmarks/results/NAME/run.json.br, copies summary.csv
 * and the report's charts whose descriptions start with DESCRIPTION next to it, and writes verdict and scores between
 * the marks of docs/benchmarks/NAME.md. If that page does not exist, it is created without prose.
 *
 * With --archive it only packs the result files, as ARCHIVE.json.br: those of a further run, or of an unfinished one,
 * which another machine can resume.
 */
import { existsSync } from 'node:fs';
import { copyFile, mkdir, readFile, writeFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import type { Summary } from '@peftjs/bench';
import { PeftError } from '@peftjs/core';
import { pack } from './archive.js';
import { newPage, withRegions } from './regions.js';
import { standaloneSvg } from './standalone-svg.js';

const { positionals, values: flags } = parseArgs({
  allowPositionals: true,
  options: { chart: { type: 'string', multiple: true, default: [] }, archive: { type: 'string', default: 'run' } },
});
const [run, name] = positionals;
if (!run || !name)
  throw new PeftError('PEFT_PUBLISH', `expected the folder of a run and a name, got '${positionals.join(' ')}'`);
await publish(run, name);

async function publish(from: string, page: string): Promise<void> {
  const into = `docs/benchmarks/results/${page}`;
  await mkdir(into, { recursive: true });
  await pack(from, `${into}/${flags.archive}.json.br`);
  if (flags.archive !== 'run') return;
  await copyFile(`${from}/summary.csv`, `${into}/summary.csv`);
  await writeCharts(await readFile(`${from}/report.html`, 'utf8'), into);
  const summary = JSON.parse(await readFile(`${from}/summary.json`, 'utf8')) as Summary;
  const path = `docs/benchmarks/${page}.md`;
  const text = existsSync(path) ? await readFile(path, 'utf8') : newPage(page, flags.chart.map(fileOf));
  await writeFile(path, withRegions(text, summary));
}

async function writeCharts(report: string, into: string): Promise<void> {
  for (const chart of flags.chart) {
    const file = fileOf(chart);
    await writeFile(`${into}/${file}.svg`, `${standaloneSvg(report, chart.slice(file.length + 1))}\n`);
  }
}

/** Returns the FILE of `FILE=DESCRIPTION`. */
function fileOf(chart: string): string {
  return chart.split('=')[0] ?? '';
}
