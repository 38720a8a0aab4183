/*
 * npx tsx --conditions @peftjs/source tools/publish/publish.ts RUN NAME [--chart FILE=DESCRIPTION]..
 *
 * Publishes a finished run: copies its report, tables and packed result files to docs/benchmarks/results/NAME, writes
 * the report's charts whose descriptions start with DESCRIPTION next to them, and writes verdict and scores between the
 * marks of docs/benchmarks/NAME.md. If that page does not exist, it is created without prose.
 *
 * Of a run without a report, it only packs the trials, as unfinished.tar.gz: another machine can resume them.
 */
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { copyFile, mkdir, readFile, writeFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { PeftError } from '@peftjs/core';
import { newPage, withRegions, type Published } from './regions.js';
import { standaloneSvg } from './standalone-svg.js';

const COPIED = ['report.html', 'summary.json', 'summary.csv', 'results.csv', 'tuning.json'];
const PACKED = ['results', 'run.json', 'tuning'];

const { positionals, values: flags } = parseArgs({
  allowPositionals: true,
  options: { chart: { type: 'string', multiple: true, default: [] } },
});
const [run, name] = positionals;
if (!run || !name || !packedIn(run).some((each) => /^(?:results|tuning)$/.test(each))) {
  throw new PeftError('PEFT_PUBLISH', `expected the folder of a run and a name, got '${positionals.join(' ')}'`);
}
await publish(run, name);

async function publish(from: string, page: string): Promise<void> {
  const into = `docs/benchmarks/results/${page}`;
  await mkdir(into, { recursive: true });
  const isFinished = existsSync(`${from}/summary.json`);
  pack(from, `${into}/${isFinished ? 'run' : 'unfinished'}.tar.gz`);
  if (!isFinished) return;
  for (const file of COPIED.filter((each) => existsSync(`${from}/${each}`))) {
    await copyFile(`${from}/${file}`, `${into}/${file}`);
  }
  await writeCharts(await readFile(`${from}/report.html`, 'utf8'), into);
  const summary = JSON.parse(await readFile(`${from}/summary.json`, 'utf8')) as Published;
  const path = `docs/benchmarks/${page}.md`;
  const text = existsSync(path) ? await readFile(path, 'utf8') : newPage(page, flags.chart.map(fileOf));
  await writeFile(path, withRegions(text, summary));
}

function pack(from: string, archive: string): void {
  const plain = ['--sort=name', '--owner=0', '--group=0', '--numeric-owner', '--mtime=@0'];
  execFileSync('tar', ['-czf', archive, ...plain, '-C', from, ...packedIn(from)]);
}

function packedIn(from: string): string[] {
  return PACKED.filter((each) => existsSync(`${from}/${each}`));
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
