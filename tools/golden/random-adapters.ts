/**
 * Exchanges random adapters with PEFT in both directions: opens those that PEFT wrote, and trains others on the same
 * networks for PEFT to open. Their outputs must equal PEFT's within 1e-4, unmerged and merged, or the adapter must be
 * refused with a one-line message. Prints a line for each adapter and direction, then the worst errors of each family
 * and type.
 *
 *   python3 -m venv venv && venv/bin/pip install torch==2.15.0 transformers==5.24.0 peft==0.21.2
 *   PEFTJS_PYTHON=venv/bin/python npx tsx --conditions @peftjs/source tools/golden/random-adapters.ts --families bert,llama --seeds 0-9
 *
 * Families are those of random_models.py; by default all, with the seeds 0 to 299. With --keep FOLDER the adapters stay
 * in that folder, and existing ones are not made again.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import {
  activeAdapter,
  attach,
  hostTensor,
  mergeAndUnload,
  PeftError,
  savePretrained,
  train,
  withAdapter,
  type Model,
  type PeftModel,
} from '@peftjs/core';
import { ConfigError, createRng, tensorAt, UnsupportedError, type HostTensors } from '@peftjs/core/method';
import { tensorKey } from '@peftjs/core/model';
import { compiled } from '@peftjs/engine';
import { writeSafetensors, type StoredTensor } from '@peftjs/safetensors';
import { methods } from 'peftjs';
import { outputsOf } from '../../tests/models/tiny.js';
import { adapterOutcome, BATCHES, openCase, type AdapterCase } from '../../tests/random/adapter.js';
import { batchOf, heads, tensorsIn } from '../../tests/random/checkpoint.js';
import { drawnAdapter } from './random-options.js';

const TOLERANCE = 1e-4;
const STEPS = 4;

const { values: options } = parseArgs({
  options: {
    families: { type: 'string', default: 'all' },
    seeds: { type: 'string', default: '0-299' },
    keep: { type: 'string' },
  },
});
const python = process.env.PEFTJS_PYTHON;
if (python === undefined)
  throw new ConfigError('set PEFTJS_PYTHON to a Python that has transformers and PEFT', 'PEFTJS_PYTHON');
const [first = 0, last = first] = options.seeds.split('-').map(Number);
const folder = options.keep ?? (await mkdtemp(join(tmpdir(), 'peftjs-random-')));
const executor = compiled({ threads: 1 });

/** The outcome of an adapter in one direction. */
interface Outcome {
  /** The family of the network. */
  readonly family: string;
  /** The type of the adapter. */
  readonly kind: string;
  /** Which library wrote the adapter. */
  readonly direction: 'written by PEFT' | 'written here';
  /** The relative distances from PEFT's outputs; empty if the adapter was refused. */
  readonly errors: readonly number[];
  /** Why it was refused or failed, or warnings. */
  readonly reason?: string;
}

inPython('write', String(first), String(last - first + 1), ...options.families.split(','));
const names = readdirSync(folder).filter((name) => existsSync(join(folder, name, 'case.json')));
const outcomes: Outcome[] = [];
const ours = new Map<string, { own: AdapterCase; kind: string; settings: string }>();
for (const name of names) await checkCase(name);
inPython('open');
for (const [name, each] of ours) checkOpened(name, each);
summarise();
if (options.keep === undefined) await rm(folder, { recursive: true });

/** Runs random_adapters.py. @throws ConfigError if it fails. */
function inPython(...parameters: readonly string[]): void {
  const script = fileURLToPath(new URL('random_adapters.py', import.meta.url));
  const [what = '', ...rest] = parameters;
  const environment = { ...process.env, PYTHONHASHSEED: '0' };
  const { status } = spawnSync(python ?? '', [script, what, folder, ...rest], { stdio: 'inherit', env: environment });
  if (status !== 0) throw new ConfigError(`${script} ended with ${status}`, script);
}

/** Opens PEFT's adapter of a case, and writes one for PEFT. */
async function checkCase(name: string): Promise<void> {
  const own = JSON.parse(readFileSync(join(folder, name, 'case.json'), 'utf8')) as AdapterCase;
  await attempt(name, { family: own.family, kind: own.kind, direction: 'written by PEFT' }, own.options, async () => {
    const { unmerged, merged, warnings } = await adapterOutcome(join(folder, name), { methods, executor });
    const notes = [merged, ...warnings].filter((each) => typeof each === 'string').join('; ');
    return { errors: [unmerged, merged].filter((each) => typeof each === 'number'), reason: notes };
  });
  await writeOurs(name);
}

/** Reports the result of a computation, or its one-line refusal; any other error is a failure. */
async function attempt(
  name: string,
  what: Pick<Outcome, 'family' | 'kind' | 'direction'>,
  settings: string,
  compute: () => Promise<Pick<Outcome, 'errors' | 'reason'> | undefined>,
): Promise<void> {
  try {
    const computed = await compute();
    if (computed) report(name, { ...what, ...computed }, settings);
  } catch (error) {
    const isRefused = error instanceof PeftError && !error.message.includes('\n');
    const reason = isRefused ? error.message : String((error as Error).stack);
    report(name, { ...what, errors: isRefused ? [] : [Infinity], reason }, settings);
  }
}

/** Trains an adapter on the network of a case and writes it with its outputs, unmerged and, if possible, merged. */
async function writeOurs(name: string): Promise<void> {
  const path = join(folder, name);
  const { own, model } = await openCase(path).catch(() => ({ own: undefined, model: undefined }));
  if (!own) return; // already reported
  const { method, options: drawn } = drawnAdapter(Number(name.slice(0, 3)), model, methods);
  const settings = JSON.stringify(drawn);
  await attempt(name, { family: own.family, kind: method.name, direction: 'written here' }, settings, async () => {
    const peft = await trained(attach(model, { method, config: method.parseConfig(drawn) }, { seed: 1 }), path, own);
    await savePretrained(peft, join(path, 'ours'));
    const tensors = { ...(await outputsFor(path, peft, 'unmerged')), ...(await mergedOutputs(path, peft)) };
    writeFileSync(join(path, 'ours.safetensors'), writeSafetensors(new Map(Object.entries(tensors))));
    ours.set(name, { own, kind: method.name, settings });
    return undefined;
  });
}

async function outputsFor(path: string, model: PeftModel | Model, kind: string): Promise<Record<string, StoredTensor>> {
  const expected = tensorsIn(join(path, 'expected.safetensors'));
  const outputs: Record<string, StoredTensor> = {};
  for (const number of BATCHES) {
    const data = await outputsOf(model, batchOf(expected, number), executor);
    outputs[`${kind}/${number}`] = { dtype: 'F32', shape: [data.length], data };
  }
  return outputs;
}

async function mergedOutputs(path: string, peft: PeftModel): Promise<Record<string, StoredTensor>> {
  try {
    return await outputsFor(path, mergeAndUnload(peft), 'merged');
  } catch (error) {
    if (error instanceof UnsupportedError) return {};
    throw error;
  }
}

/** Trains for a few steps; if there are no labels, adds noise instead. */
async function trained(peft: PeftModel, path: string, { head }: AdapterCase): Promise<PeftModel> {
  const { kind } = heads[head];
  if (kind === 'pairs') return moved(peft);
  const expected = tensorsIn(join(path, 'expected.safetensors'));
  const batches = [batchOf(expected, 1), batchOf(expected, 2)];
  await train(
    peft,
    { kind, batchesPerEpoch: batches.length, epoch: () => batches },
    { executor, epochs: STEPS / batches.length, learningRate: 0.05 },
  );
  return peft;
}

/** Adds noise to everything that is trained. */
function moved(peft: PeftModel): PeftModel {
  const { layers, saved, values } = activeAdapter(peft);
  const rng = createRng(1);
  const changed: HostTensors = { ...values };
  for (const layer of Object.values({ ...layers, ...saved })) {
    for (const name of Object.keys(layer.params)) {
      const { data, shape } = tensorAt(values, tensorKey(layer, name));
      changed[tensorKey(layer, name)] = hostTensor(
        Float32Array.from(data, (value) => value + 0.1 * rng.normal()),
        shape,
      );
    }
  }
  return withAdapter(peft, { values: changed });
}

function checkOpened(
  name: string,
  { own, kind, settings }: { own: AdapterCase; kind: string; settings: string },
): void {
  const opened = JSON.parse(readFileSync(join(folder, name, 'opened.json'), 'utf8')) as Record<string, number | string>;
  const { error, ...errors } = opened;
  const failed = typeof error === 'string';
  const found = failed ? [Infinity] : (Object.values(errors) as number[]);
  report(
    name,
    { family: own.family, kind, direction: 'written here', errors: found, ...(failed && { reason: error }) },
    settings,
  );
}

function report(name: string, outcome: Outcome, settings: string): void {
  outcomes.push(outcome);
  const { direction, kind, errors, reason = '' } = outcome;
  const verdict = errors.length === 0 ? 'refused  ' : isEqual(outcome) ? 'equal    ' : 'DIFFERENT';
  const shown = errors.map((error) => error.toExponential(1)).join(', ');
  print(
    `${verdict} ${name.padEnd(16)} ${direction}, ${kind} ${shown} ${reason}${isEqual(outcome) ? '' : `\n          ${settings}`}`,
  );
}

function isEqual({ errors }: Outcome): boolean {
  return errors.every((error) => error < TOLERANCE);
}

function summarise(): void {
  for (const direction of ['written by PEFT', 'written here'] as const) {
    const own = outcomes.filter((outcome) => outcome.direction === direction);
    print(`\n${direction}: ${countsOf(own)}`);
    for (const by of ['family', 'kind'] as const) {
      for (const value of new Set(own.map((outcome) => outcome[by]).sort())) {
        print(`  ${value.padEnd(16)} ${countsOf(own.filter((outcome) => outcome[by] === value))}`);
      }
    }
  }
  if (!outcomes.every(isEqual)) process.exitCode = 1;
}

function countsOf(own: readonly Outcome[]): string {
  const computed = own.filter(({ errors }) => errors.length > 0);
  const equal = computed.filter(isEqual);
  const worst = Math.max(0, ...equal.flatMap(({ errors }) => errors));
  const different = computed.length - equal.length;
  return `${equal.length} equal (worst ${worst.toExponential(1)}), ${own.length - computed.length} refused, ${different} different`;
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}
