/*
 * npx tsx --conditions @peftjs/source tools/studies/reproduction.ts
 *
 * Writes the first table and the chart of docs/benchmarks/bert-base.md: the scores of the published run of
 * `bert-base-1k` beside those that UniPELT publishes.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readResults } from '@peftjs/bench';
import { writeInto } from '../perf-peer/tables.js';
import { unpack } from '../publish/archive.js';
import { reproductionChart, reproductionTable } from './reproduction-tables.js';

const RESULTS = 'docs/benchmarks/results/bert-base';

const folder = await mkdtemp(join(tmpdir(), 'peftjs-reproduction-'));
await unpack(`${RESULTS}/run.json.br`, folder);
const trials = await readResults(folder);
await rm(folder, { recursive: true });
await writeInto('docs/benchmarks/bert-base.md', { reproduction: reproductionTable(trials) });
await writeFile(`${RESULTS}/reproduction.svg`, reproductionChart(trials));
