import { activeAdapter, hostTensor, onWarning, withAdapter } from '@peftjs/core';
import type { TrainPlan } from '@peftjs/core/method';
import { linearSite } from '@peftjs/core/model';
import { layersOf, toyEvaluationData } from '@peftjs/conformance';
import { sora, type SoraConfig } from '@peftjs/sora';
import { describe, expect, it } from 'vitest';
import { attached, trainToy } from './harness.js';

const sites = [linearSite('a', 4, 4), linearSite('b', 4, 4)];
const warningsOf = async (work: () => unknown): Promise<string[]> => {
  const warnings: string[] = [];
  const restore = onWarning((message) => warnings.push(message));
  await work();
  restore();
  return warnings;
};

describe('the warning of a short run', () => {
  it('states once how far gates can move, how far apart they start, and what to change', async () => {
    const warnings = await warningsOf(async () => {
      await trainToy(attached(), { epochs: 2, learningRate: 1e-3 });
      await trainToy(attached(), { epochs: 2, learningRate: 1e-3 });
    });
    expect(warnings).toHaveLength(1);
    expect(warnings[0]).toMatch(
      /^SoRA: gates can move by 0\.00\d+ in this run but start \d\.\d apart.*variant: 'choosing'/,
    );
  });

  it('adds up the learning rates of the gates after the warm-up, until ranks are chosen or the run ends', async () => {
    const learningRates = (step: number) => ({ gate: 1e-3 * step, default: 1 });
    const plan: TrainPlan = { totalSteps: 20, warmupSteps: 4, finalSteps: 6, learningRates };
    const started = (options: Partial<SoraConfig>): Promise<string[]> =>
      warningsOf(() => {
        const config = sora.parseConfig({ r: 4, variant: 'paper', ...options });
        return sora.controller?.(layersOf(sora, sites, config), config, plan);
      });
    expect((await started({ budget: 32 }))[0]).toMatch(/can move by 0\.095 in/); // 5 + 6 + .. + 14
    expect((await started({}))[0]).toMatch(/can move by 0\.20 in/); // 5 + 6 + .. + 20
  });

  it.each([
    { gateInit: 'ones' },
    { variant: 'choosing' },
    { selection: 'random', budget: 400 },
    { budget: 400 },
  ] as const)('is not given with %o', async (options) => {
    expect(await warningsOf(() => trainToy(attached(options), { epochs: 2, learningRate: 1e-3 }))).toEqual([]);
  });

  it('is given with drawn ranks too where no budget draws them', async () => {
    const work = () => trainToy(attached({ selection: 'random' }), { epochs: 2, learningRate: 1e-3 });
    expect(await warningsOf(work)).toHaveLength(1);
  });

  it('is not given when the run is long enough', async () => {
    expect(await warningsOf(() => trainToy(attached(), { epochs: 2, learningRates: { gate: 2 } }))).toEqual([]);
  });
});

describe('the warning of an early choice of ranks', () => {
  /** Trains with a budget; the head's bias speaks for the first of three classes. */
  const trainedFrom = (bias: number): Promise<string[]> =>
    warningsOf(async () => {
      const peft = attached({ budget: 400 });
      const values = { ...activeAdapter(peft).values, 'classifier.bias': hostTensor(Float32Array.of(bias, 0, 0), [3]) };
      const selection = { data: toyEvaluationData() };
      await trainToy(withAdapter(peft, { values }), { epochs: 2, learningRate: 1e-3, selection });
    });

  it('says when ranks were chosen, if the model gives all selection rows one class', async () => {
    expect(await trainedFrom(100)).toEqual([
      'sora chose its ranks after step 6 of 8, while the model gave all 32 selection rows one class, so the task could not decide: train longer',
    ]);
  });

  it('is not given for a model that tells rows apart', async () => {
    expect(await trainedFrom(0)).toEqual([]);
  });
});

describe('a variant', () => {
  const fitted = (options: Partial<SoraConfig>) => sora.fitBudget?.(sites, 32, sora.parseConfig(options));

  it("is 'choosing' for a configuration fitted to a budget, and is made explicit", () => {
    expect(fitted({})).toMatchObject({ variant: 'choosing', gateInit: 'ones', separation: true, r: 4, budget: 32 });
    expect(fitted({ gateInit: 'normal' })).toMatchObject({ gateInit: 'normal', separation: true });
    const paper = { variant: 'paper', gateInit: 'normal', separation: false };
    expect(fitted({ variant: 'paper' })).toMatchObject({ ...paper, r: 3 }); // 1.5 * 32 / 16
  });

  it('starts with at least eight ranks if it has to choose and the smaller side allows it', () => {
    const wide = [linearSite('a', 64, 16), linearSite('b', 12, 64)];
    const config = sora.parseConfig({});
    const started = (budget: number): number => (sora.fitBudget?.(wide, budget, config) ?? config).r;
    expect(started(156)).toBe(8);
    expect(started(6 * 156)).toBe(9);
  });
});
