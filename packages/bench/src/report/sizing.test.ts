import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { diskStorage } from '@peftjs/core';
import { expect, it } from 'vitest';
import { syntheticTrial } from '../../test/synthetic-results.js';
import { readSizing, writeSizing } from '../results/files.js';
import type { TrialSizing } from '../results/schema.js';
import { renderMarkdown } from './files.js';
import { renderReport } from './page.js';
import { sizingText } from './stages.js';
import { summarise } from './statistics/summary.js';

type Stage = TrialSizing['stages'][number];

const stage = (of: Partial<Stage>): Stage => ({
  stage: 0,
  kind: 'dense',
  budget: null,
  storedParameters: 4000,
  meanParameters: 4000,
  ranks: { query: 5 },
  score: 0.9,
  trainScore: 1,
  worse: 0,
  allowed: 0,
  held: true,
  memorization: 100,
  generalization: 100,
  ...of,
});

const sizing: TrialSizing = {
  stages: [
    stage({}),
    stage({ stage: 1, kind: 'descent', budget: 1000, storedParameters: 800, ranks: { query: 1 }, worse: 0.1, allowed: 0.02, held: false, memorization: null }), // prettier-ignore
    stage({ stage: 2, kind: 'search', budget: 2000, storedParameters: 1600, ranks: { query: 2 }, score: 0.895, worse: 0.005, allowed: 0.02 }), // prettier-ignore
  ],
  chosen: 2,
  reason: 'With 1,600 parameters <b>it</b> is enough.',
};

it('an automatic choice of size is shown from large to small, with the choice and its reason', () => {
  expect(sizingText(sizing).split('\n').map((line) => line.trim().split(/\s{2,}/))).toEqual([
    ['stage', 'stored', 'ranks', 'score', 'worse by', 'may be', 'memorization, %', 'generalization, %'],
    ['dense', '4,000', '5', '0.900', '–', '–', '100.0', '100.0'],
    ['search', '1,600', '2', '0.895', '+0.005', '0.020', '100.0', '100.0', 'chosen'],
    ['descent', '800', '1', '0.900', '+0.100', '0.020', '–', '100.0'],
    ['With 1,600 parameters <b>it</b> is enough.'],
    [''],
  ]); // prettier-ignore
});

it('a report shows the stages and the reason', async () => {
  const trial = { ...syntheticTrial({ task: 'uci-sentiment', method: 'sora', rank: 4, seed: 1 }), sizing };
  const summary = summarise([trial], { reference: 'sora' });
  const page = await renderReport([trial], summary);
  expect(page).toContain('against stored parameters, and the chosen size');
  expect(page).toContain('<bdi>Seed 1: With 1,600 parameters &lt;b&gt;it&lt;/b&gt; is enough.</bdi>');
  expect(renderMarkdown([trial], summary)).toMatch(/Seed 1: With 1,600 .*\n\n\| stage \| stored /);
});

it('it is stored next to an adapter, and removed when another adapter replaces that', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'sizing-'));
  try {
    await writeSizing(folder, sizing);
    expect(await readSizing(folder, diskStorage())).toEqual(sizing);
    await writeFile(join(folder, 'sizing.json'), '{"stages": [], "chosen": 7}');
    await expect(readSizing(folder, diskStorage())).rejects.toThrow(/sizing.json is not a valid record/);
    await writeSizing(folder, undefined);
    expect(await readSizing(folder, diskStorage())).toBeUndefined();
  } finally {
    await rm(folder, { recursive: true });
  }
});
