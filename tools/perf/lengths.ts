/*
 * npx tsx --conditions @peftjs/source tools/perf/lengths.ts [--model smollm2-135m] [--settings q8,q8-checkpointing]
 *     [--lengths 128,512,1024,1792,4096,8192] [--limit 8] [--threads 2] [--results FILE]
 *
 * Measures the peak memory of training LoRA on one text by its length, each in a separate process. A process above the
 * limit, in GB, is ended, and longer texts in its setting are left out. Prints or writes one JSON object.
 */
import { PeftError } from '@peftjs/core';
import { writeFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';
import { settings, type PerfCase, type SettingName } from './cases.js';
import type { RandomModelName } from './models.js';
import { measured, OVER_LIMIT, processorName, withModels, type ModelFolder } from './own-process.js';

/** The peak memory of training on one text of a length. */
export interface LengthRun {
  /** The setting. */
  readonly setting: SettingName;
  /** Tokens of the text. */
  readonly tokens: number;
  /** Peak memory of the process, in bytes; null if it was ended above the limit. */
  readonly peakRssBytes: number | null;
}

/** The content of lengths.json. */
export interface LengthResults {
  /** The model of the processor. */
  readonly cpu: string;
  /** The name of the model. */
  readonly model: string;
  /** The memory at which a process is ended, in bytes. */
  readonly limitBytes: number;
  /** The runs of each setting, by length; none after the first above the limit. */
  readonly runs: readonly LengthRun[];
}

/** Memory does not grow after the second step. */
const STEPS_AFTER_FIRST = 2;

const { values: flags } = parseArgs({
  options: {
    model: { type: 'string', default: 'smollm2-135m' },
    settings: { type: 'string', default: 'q8,q8-checkpointing' },
    lengths: { type: 'string', default: '128,512,1024,1792,4096,8192' },
    limit: { type: 'string', default: '8' },
    threads: { type: 'string', default: String(availableParallelism()) },
    results: { type: 'string' },
  },
});
const model = flags.model as RandomModelName;
const limitBytes = 1e9 * Number(flags.limit);
const runs: LengthRun[] = [];
await withModels(async (folder) => {
  for (const setting of flags.settings.split(',') as SettingName[]) {
    for (const tokens of flags.lengths.split(',').map(Number)) {
      const peakRssBytes = await peakOf(setting, tokens, folder);
      process.stderr.write(`${setting}, ${tokens} tokens: ${peakRssBytes ?? 'above the limit'}\n`);
      runs.push({ setting, tokens, peakRssBytes });
      if (peakRssBytes === null) break;
    }
  }
});
const results: LengthResults = { cpu: processorName(), model, limitBytes, runs };
const text = `${JSON.stringify(results, null, 2)}\n`;
if (flags.results) await writeFile(flags.results, text);
else process.stdout.write(text);

async function peakOf(setting: SettingName, tokens: number, folder: ModelFolder): Promise<number | null> {
  const perfCase: PerfCase = {
    name: `${model}-1x${tokens}-lora-${setting}`,
    model,
    method: 'lora',
    ...settings[setting],
    batch: [1, tokens],
    steps: STEPS_AFTER_FIRST,
    threads: Number(flags.threads),
    executor: 'compiled',
  };
  try {
    const { peakRssBytes } = await measured(perfCase, folder, { limitBytes });
    return peakRssBytes > limitBytes ? null : peakRssBytes;
  } catch (error) {
    if (error instanceof PeftError && error.code === OVER_LIMIT) return null;
    throw error;
  }
}
