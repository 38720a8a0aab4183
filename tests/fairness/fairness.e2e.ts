import { createHash } from 'node:crypto';
import { activeAdapter, attach, calibrate, countParameters, type Batch, type InputBatch } from '@peftjs/core';
import { tensorAt, type HostTensors } from '@peftjs/core/method';
import { compiled } from '@peftjs/engine';
import { beforeAll, describe, expect, it } from 'vitest';
import { planTrials, type Trial } from '../../packages/cli/src/study/trials.js';
import { presetNamed } from '../../packages/cli/src/study/presets.js';
import { composeStudy } from '../../packages/cli/src/study/study.js';
import { availableMethods, resolveMethod } from '../../packages/cli/src/registry/methods.js';
import type { DoneTrial } from '../../packages/cli/src/results/schema.js';
import { summarise } from '../../packages/bench/src/report/statistics/summary.js';
import { fitConfig } from '../../packages/cli/src/study/budgets.js';
import { trialPreparer, type PreparedTrial } from '../../packages/cli/src/run/prepare.js';
import { runTrial } from '../../packages/cli/src/run/trial.js';

/** The smoke study with all methods and two seeds. */
async function everyTrial(): Promise<Trial[]> {
  const methods = (await availableMethods()).map(({ name }) => name);
  const resolved = await Promise.all(methods.map(async (name) => [name, (await resolveMethod(name)).method] as const));
  return planTrials({
    study: composeStudy([presetNamed('smoke').study, { methods, seeds: 2 }]),
    data: { kind: 'embedded' },
    engine: { executor: 'compiled', backend: 'cpu', threads: 1, dtype: 'fp32' },
    versions: { numerics: 1 },
    methodVersions: new Map(),
    fingerprints: { model: '', data: {} },
    lengths: { 'uci-sentiment': { maxTokens: 24, epochs: 2 } },
    headOnly: new Set(['head']),
    budgeted: new Set(resolved.filter(([, { fitBudget }]) => fitBudget).map(([name]) => name)),
  });
}

const executor = compiled({ threads: 1 });

const hash = (tensors: HostTensors): string => {
  const digest = createHash('sha256');
  for (const [name, { data }] of Object.entries(tensors).sort()) digest.update(name).update(data);
  return digest.digest('hex');
};

const hashBatch = ({ inputs, labels, rowWeights }: Batch): string => hash({ ...inputs, labels, rowWeights });

/** The distinct token sequences of batches. */
function sequences(batches: readonly InputBatch[]): Set<string> {
  return new Set(
    batches.flatMap(({ inputs, rows }) => {
      const ids = tensorAt(inputs, 'inputIds');
      const tokens = ids.shape[1] as number;
      return rows.map((_, row) => [...ids.data.slice(row * tokens, (row + 1) * tokens)].join().replace(/(,0)+$/, ''));
    }),
  );
}

describe('trap 32: a comparison is fair', () => {
  let trials: Trial[];
  let prepared: Map<Trial, PreparedTrial>;
  beforeAll(async () => {
    trials = await everyTrial();
    const prepare = trialPreparer();
    prepared = new Map(await Promise.all(trials.map(async (trial) => [trial, await prepare(trial)] as const)));
  });
  const of = (trial: Trial): PreparedTrial => prepared.get(trial) ?? expect.fail('not prepared');
  const bySeed = (seed: number): Trial[] => trials.filter((trial) => trial.seed === seed);

  it('every method reads the same batches in the same order, and another seed has another order', () => {
    const order = (trial: Trial): string =>
      [0, 1].flatMap((epoch) => of(trial).train.epoch(epoch).map(hashBatch)).join(' ');
    const [first, second] = [1, 2].map((seed) => new Set(bySeed(seed).map(order)));
    expect(first?.size).toBe(1);
    expect(second?.size).toBe(1);
    expect(first).not.toEqual(second);
  });

  it('every method starts from the same head, trains it, and does not count it', async () => {
    const heads = new Set<string>();
    for (const trial of bySeed(1)) {
      const { model, train } = of(trial);
      const { seed } = trial;
      const { method } = await resolveMethod(trial.method);
      const configured = { method, config: fitConfig(method, model, trial).config };
      const measures = Boolean(method.calibration?.(configured.config));
      const calibration = measures && (await calibrate(model, configured, train, { executor, seed, batches: 1 }));
      const peft = attach(model, configured, { seed, ...(calibration && { calibration }) });
      const [path = ''] = model.head;
      const head = tensorAt(activeAdapter(peft).saved, path);
      expect(Object.values(head.params).every(({ trainable, group }) => trainable && group === 'head')).toBe(true);
      expect(activeAdapter(peft).layers[path], trial.method).toBeUndefined();
      expect(countParameters(peft).saved).toBe(512 * 2 + 2);
      const { weight, bias } = { weight: `${path}.weight`, bias: `${path}.bias` };
      heads.add(
        hash({
          weight: tensorAt(activeAdapter(peft).values, weight),
          bias: tensorAt(activeAdapter(peft).values, bias),
        }),
      );
    }
    expect(heads.size).toBe(1);
  });

  it('no row that selects a checkpoint is trained on or reported', () => {
    const [trial] = trials;
    const { train, selection, dev } = of(trial ?? expect.fail('no trial'));
    const [trained, selected, reported] = [train.epoch(0), selection.batches, dev.batches].map(sequences);
    expect(selected?.size).toBeGreaterThan(10);
    for (const row of selected ?? []) {
      expect(trained?.has(row)).toBe(false);
      expect(reported?.has(row)).toBe(false);
    }
  });

  it('a row that misses its budget is marked and not ranked', async () => {
    const budgeted = bySeed(1).find(({ budget }) => budget !== null) ?? expect.fail('no trial with a budget');
    const { result } = await runTrial(budgeted, of(budgeted));
    expect(result.budget.met).toBe(true);
    const stored = Math.round(1.03 * (result.budget.requested ?? 0));
    const missed: DoneTrial = { ...result, seed: 2, budget: { ...result.budget, met: false } };
    const rows = (results: DoneTrial[]) => summarise(results, { reference: 'lora' }).rows;
    const [met] = rows([result]);
    const [row] = rows([result, { ...missed, parameters: { ...result.parameters, stored } }]);
    expect([met?.budget.met, met?.rank]).toEqual([true, 1]);
    expect([row?.budget.met, row?.rank]).toEqual([false, null]);
  });
});
