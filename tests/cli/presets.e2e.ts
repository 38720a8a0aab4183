import { cp, mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { onWarning } from '@peftjs/core';
import { beforeAll, describe, expect, it } from 'vitest';
import { planRun } from '../../packages/cli/src/run/plan-run.js';
import { studyFromFlags } from '../../packages/cli/src/commands/flags.js';
import { presetNamed, presets, type Preset } from '../../packages/cli/src/study/presets.js';
import { composeStudy } from '../../packages/cli/src/study/study.js';
import { planTrials } from '../../packages/cli/src/study/trials.js';
import { planTuning } from '../../packages/bench/src/run/tuning.js';
import { temporaryFolder } from '../../tools/vitest/temporary-folder.js';
import { bertFolder } from '../models/bert-tiny.js';
import { peftBench } from './in-process.js';

const folder = temporaryFolder();
const at = (...names: string[]): string => join(folder, ...names);
const rows = Array.from({ length: 48 }, (_, row) => (row % 2 ? `1\tso good ${row}` : `0\tso bad ${row}`));
const entailments = Array.from(
  { length: 24 },
  (_, row) => `${row}\tso good\tso bad ${row}\t${row % 2 ? 'not_' : ''}entailment`,
);

async function readJson<T>(path: string): Promise<T> {
  return JSON.parse(await readFile(path, 'utf8')) as T;
}

/**
 * A random DeBERTa, which has no tokenizer of its own: it gets another one's, with as many words as the embedding table
 * has rows.
 */
async function writeDeberta(folder: string): Promise<void> {
  await cp(fileURLToPath(new URL('../models/fixtures/deberta-v3-tiny', import.meta.url)), folder, { recursive: true });
  const { vocab_size: words } = await readJson<{ vocab_size: number }>(join(folder, 'config.json'));
  const tokenizer = await readJson<{ model: { vocab: Record<string, number> } }>(join(bertFolder, 'tokenizer.json'));
  const vocab = Object.fromEntries(Object.entries(tokenizer.model.vocab).filter(([, id]) => id < words));
  await writeFile(
    join(folder, 'tokenizer.json'),
    JSON.stringify({ ...tokenizer, model: { ...tokenizer.model, vocab } }),
  );
}

/**
 * A study's flags with few rows; if its model would have to be downloaded, with a small one of the same kind and a
 * budget in reach.
 */
function flagsOf({ name, needsData }: Preset, more: object = {}) {
  const small = name === 'paper' ? { model: at('deberta'), budget: '1024' } : { model: bertFolder, budget: 'r=4' };
  const instead = needsData ? small : {};
  const data = needsData ? { data: at('glue') } : { train: at('train.tsv'), dev: at('dev.tsv') };
  return { preset: name, engine: 'compiled', backend: 'cpu', dtype: 'fp32', ...data, ...instead, ...more };
}

beforeAll(async () => {
  for (const name of ['train', 'dev']) await writeFile(at(`${name}.tsv`), ['label\ttext', ...rows].join('\n'));
  for (const name of ['RTE', 'QNLI', 'mine']) await mkdir(at('glue', name), { recursive: true });
  for (const name of ['train', 'dev']) {
    const content = ['index\tsentence1\tsentence2\tlabel', ...entailments].join('\n');
    await writeFile(at('glue', 'RTE', `${name}.tsv`), content);
  }
  await writeFile(at('glue', 'QNLI', 'dev.tsv'), '');
  await writeDeberta(at('deberta'));
});

describe.each(presets())('the preset $name', (preset) => {
  const { about, study, full, needsData } = preset;

  it('is a complete study, also in its full size, and has a description', () => {
    expect(about).toMatch(/^\S.*\S$/);
    const whole = composeStudy([study]);
    expect(Object.keys(whole.methods)).toContain(whole.reference);
    if (full) expect(composeStudy([study, full])).not.toEqual(whole);
  });

  it.each([false, ...(full ? [true] : [])])(
    'has options that its methods accept, for every budget (full: %s)',
    async (isFull) => {
      const warnings: string[] = [];
      const restore = onWarning((message) => warnings.push(message));
      try {
        const composed = await studyFromFlags(flagsOf(preset, { full: isFull }));
        const { plan } = await planRun(composed);
        expect(planTrials(plan).length).toBeGreaterThan(0);
        const tried = planTuning(plan).map(({ rates }) => rates.length);
        expect(new Set(tried).size).toBe(composed.study.tuning ? 1 : 0);
        if (needsData) expect(composed.study.tasks).toEqual(['rte']);
      } finally {
        restore();
      }
      expect(warnings).toEqual([]);
    },
  );
});

describe("rows of the user's data", () => {
  const rowsOf = async (name: string, more: object = {}) =>
    (await studyFromFlags(flagsOf(presetNamed(name), more))).study.protocol.rows;

  it('are all used, unless the preset is for such data, or a study file or a flag sets their number', async () => {
    await writeFile(at('few.json'), JSON.stringify({ protocol: { rows: 40 } }));
    expect(await rowsOf('quick')).toBeNull();
    expect(await rowsOf('quick', { config: at('few.json') })).toBe(40);
    expect(await rowsOf('quick', { config: at('few.json'), rows: 30 })).toBe(30);
    expect(await rowsOf('glue')).toBe(presetNamed('glue').study.protocol?.rows);
    expect(await rowsOf('glue', { full: true })).toBeNull();
  });
});

describe('an arm without options', () => {
  const optionsOf = async (flags: object): Promise<object | undefined> => {
    const smoke = { preset: 'smoke', engine: 'compiled', backend: 'cpu', dtype: 'fp32' };
    const { plan } = await planRun(await studyFromFlags({ ...smoke, ...flags }));
    return planTrials(plan).find(({ arm }) => arm === 'adalora')?.settings.options;
  };

  it("gets those that its method recommends for short runs on the user's data, where the study sets none", async () => {
    const own = { train: at('train.tsv'), dev: at('dev.tsv') };
    await writeFile(at('gamma.json'), JSON.stringify({ methods: { adalora: { options: { orthRegWeight: 0.3 } } } }));
    expect(await optionsOf(own)).toEqual({ loraAlpha: 32, orthRegWeight: 0 });
    expect(await optionsOf({ ...own, config: at('gamma.json') })).toEqual({ loraAlpha: 32, orthRegWeight: 0.3 });
    expect(await optionsOf({})).toEqual({});
  });
});

describe('a folder of published tasks', () => {
  it('gives a preset its own tasks, if it has some of them', async () => {
    for (const task of ['RTE', 'WNLI']) await cp(at('glue', 'RTE'), at('more', task), { recursive: true });
    const tasksOf = async (name: string) =>
      (await studyFromFlags(flagsOf(presetNamed(name), { data: at('more') }))).study.tasks;
    expect(await tasksOf('glue')).toEqual(['rte']);
    expect(await tasksOf('sparsity')).toEqual(['rte', 'wnli']);
  });
});

describe('peft-bench run --help', () => {
  it('names and describes every preset', async () => {
    const { stdout, code } = await peftBench(['run', '--help']);
    for (const { name, about } of presets()) expect(stdout).toMatch(new RegExp(`\n  ${name} +${about.slice(0, 20)}`));
    expect(code).toBe(0);
  });
});

describe('a budget on the command line', () => {
  it('applies to every arm that has one', async () => {
    const { plan } = await planRun(await studyFromFlags(flagsOf(presetNamed('standard'), { budget: 'r=2' })));
    const trials = planTrials(plan);
    expect(new Set(trials.map(({ budget }) => budget))).toEqual(new Set(['r=2', null]));
    expect(trials.find(({ arm }) => arm === 'lora-frozen-head')?.budget).toBe('r=2');
  });
});

describe('peft-bench run --preset standard', () => {
  it('runs to its end on the least possible data', async () => {
    await writeFile(at('small.json'), JSON.stringify({ tuning: null, budgets: ['r=4'], protocol: { epochs: 1 } }));
    const data = ['--model', bertFolder, '--train', at('train.tsv'), '--dev', at('dev.tsv'), '--batch-size', '8'];
    const study = ['--preset', 'standard', '--config', at('small.json'), '--seeds', '1', '--epochs', '2'];
    const { code, stderr } = await peftBench(['run', ...study, ...data, '--out', at('out')]);
    expect(stderr).toContain('report.html');
    expect(code).toBe(0);
    const names = await readdir(at('out', 'results'));
    const frozen = names.filter((name) => name.includes('frozen_head'));
    expect(frozen).toHaveLength(2);
    for (const file of frozen) {
      const { arm, method, protocol } = await readJson<{ arm: string; method: string; protocol: { head: string } }>(
        at('out', 'results', file),
      );
      expect([arm, protocol.head]).toEqual([`${method}-frozen-head`, 'frozen']);
    }
  }, 180_000);
});
