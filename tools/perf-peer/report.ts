/*
 * npx tsx --conditions @peftjs/source tools/perf-peer/report.ts [--results docs/benchmarks/results/speed] [--page docs/benchmarks/speed.md]
 *
 * Writes the tables of speed.json, speed-avx2.json, decoders.json with lengths.json, profile.json, epochs.json,
 * precision.json and perf.json, if they exist, into the page between their marks, and the chart next to the results.
 */
import { existsSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { decoderSection } from './decoder-tables.js';
import { overview } from './overview.js';
import {
  caseTables,
  epochTable,
  precisionTable,
  profileTable,
  speedChart,
  stepGroups,
  stepTables,
  writeInto,
  type PerfResults,
} from './tables.js';
import type { LengthResults } from '../perf/lengths.js';
import type { PrecisionResults } from '../perf/precisions.js';
import type { Profile } from '../perf/profile.js';
import type { DecoderRun, EpochResults, SpeedResults } from './results.js';

const { values: flags } = parseArgs({
  options: {
    results: { type: 'string', default: 'docs/benchmarks/results/speed' },
    page: { type: 'string', default: 'docs/benchmarks/speed.md' },
  },
});

const speed = await read<SpeedResults>('speed.json');
if (speed) {
  await writeInto(flags.page, { steps: stepTables(speed) });
  await writeFile(join(flags.results, 'speed.svg'), speedChart(stepGroups(speed)));
}
const older = await read<SpeedResults>('speed-avx2.json');
if (older) await writeInto(flags.page, { 'steps-avx2': stepTables(older) });
const decoders = await read<SpeedResults<DecoderRun>>('decoders.json');
const lengths = await read<LengthResults>('lengths.json');
if (decoders) await writeInto(flags.page, { decoders: decoderSection(decoders, lengths) });
const profiles = await read<Profile[]>('profile.json');
if (profiles) await writeInto(flags.page, { profile: profileTable(profiles) });
const epochs = await read<EpochResults>('epochs.json');
if (epochs) await writeInto(flags.page, { epochs: epochTable(epochs) });
if (speed && decoders && epochs) await writeInto(flags.page, { overview: overview(speed, decoders, epochs) });
const precision = await read<PrecisionResults>('precision.json');
if (precision) await writeInto(flags.page, { precision: precisionTable(precision) });
const perf = await read<PerfResults>('perf.json');
if (perf) await writeInto(flags.page, { perf: caseTables(perf) });

async function read<T>(name: string): Promise<T | undefined> {
  const file = join(flags.results, name);
  return existsSync(file) ? (JSON.parse(await readFile(file, 'utf8')) as T) : undefined;
}
