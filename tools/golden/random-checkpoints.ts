/**
 * Compares peftjs with transformers and PEFT on random checkpoints: hidden states, logits, greedy texts, LoRA's
 * gradients, and 30 steps of AdamW. Prints one line for each checkpoint, then the worst error of each family.
 * Checkpoints that peftjs refuses are listed with the reason. Fails if anything differs by more than 1e-4.
 *
 *   python3 -m venv venv && venv/bin/pip install torch==2.15.0 transformers==5.24.0 peft==0.21.2
 *   PEFTJS_PYTHON=venv/bin/python npx tsx --conditions @peftjs/source tools/golden/random-checkpoints.ts --families bert,llama --seeds 0-9
 *
 * Families are those of random_models.py; by default all, with the seeds 0 to 2. With --keep FOLDER the checkpoints
 * stay in that folder, and existing ones are not made again.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { PeftError } from '@peftjs/core';
import { ConfigError } from '@peftjs/core/method';
import { compiled } from '@peftjs/engine';
import { checkpointErrors, MEASURES, type Errors } from '../../tests/random/checkpoint.js';

const TOLERANCE = 1e-4;

const { values: options } = parseArgs({
  options: {
    families: { type: 'string', default: 'all' },
    seeds: { type: 'string', default: '0-2' },
    keep: { type: 'string' },
  },
});
const python = process.env.PEFTJS_PYTHON;
if (python === undefined)
  throw new ConfigError('set PEFTJS_PYTHON to a Python that has transformers and PEFT', 'PEFTJS_PYTHON');
const [first = 0, last = first] = options.seeds.split('-').map(Number);
const folder = options.keep ?? (await mkdtemp(join(tmpdir(), 'peftjs-random-')));
const executor = compiled({ threads: 1 });

const maker = fileURLToPath(new URL('random_checkpoints.py', import.meta.url));
const made = spawnSync(
  python,
  [maker, folder, String(first), String(last - first + 1), ...options.families.split(',')],
  { stdio: 'inherit', env: { ...process.env, PYTHONHASHSEED: '0' } },
);
if (made.status !== 0) throw new ConfigError(`${maker} ended with ${made.status}`, maker);

/** The outcome of a checkpoint. */
interface Outcome {
  readonly family: string;
  readonly errors?: Errors;
}

const outcomes: Outcome[] = [];
for (const name of readdirSync(folder).filter((each) => existsSync(join(folder, each, 'case.json')))) {
  const family = name.replace(/-\d+$/, '');
  try {
    const errors = await checkpointErrors(join(folder, name), executor);
    outcomes.push({ family, errors });
    print(`${isEqual(errors) ? 'equal    ' : 'DIFFERENT'} ${name.padEnd(16)} ${shown(errors)}`);
  } catch (error) {
    outcomes.push({ family });
    const reason = error instanceof PeftError ? error.message : String((error as Error).stack);
    print(`${error instanceof PeftError ? 'refused  ' : 'FAILED   '} ${name.padEnd(16)} ${reason}`);
    if (!(error instanceof PeftError)) process.exitCode = 1;
  }
}
print('');
for (const family of new Set(outcomes.map((outcome) => outcome.family))) {
  const own = outcomes.filter((outcome) => outcome.family === family);
  const computed = own.flatMap(({ errors }) => errors ?? []);
  const worst = Object.fromEntries(
    MEASURES.flatMap((measure) => {
      const errors = computed.flatMap((each) => each[measure] ?? []);
      return errors.length === 0 ? [] : [[measure, Math.max(...errors)]];
    }),
  );
  const equal = computed.filter(isEqual).length;
  print(
    `${family.padEnd(12)} ${equal} of ${own.length} equal, ${own.length - computed.length} refused; worst: ${shown(worst)}`,
  );
  if (equal < computed.length) process.exitCode = 1;
}
if (options.keep === undefined) await rm(folder, { recursive: true });

function isEqual(errors: Errors): boolean {
  return Object.values(errors).every((error) => error < TOLERANCE);
}

function shown(errors: Errors): string {
  return Object.entries(errors)
    .map(([measure, error]) => `${measure} ${measure === 'tokens' ? error : error.toExponential(1)}`)
    .join(', ');
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}
