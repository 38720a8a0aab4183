import { adamW, activeAdapter, onWarning } from '@peftjs/core';
import { linearSite, tensorAt, type TrainPlan } from '@peftjs/core/method';
import { contextOf, layerOf, layersOf } from '@peftjs/core/testing';
import { sora, type SoraConfig } from '@peftjs/sora';
import * as tf from '@tensorflow/tfjs';
import { beforeAll, describe, expect, it } from 'vitest';
import { attached, trainToy } from './harness.js';

beforeAll(async () => {
  tf.env().set('PROD', true);
  await tf.setBackend('cpu');
});

const sites = [linearSite('a', 4, 4), linearSite('b', 4, 4)];
const plan: TrainPlan = {
  totalSteps: 20,
  warmupSteps: 4,
  finalSteps: 6,
  learningRates: (step) => ({ gate: 0.01 * step }),
};
const scalarsOf = (options: Partial<SoraConfig>, given: TrainPlan = plan): Record<string, number> => {
  const config = sora.parseConfig({ r: 4, ...options });
  const rates = given.learningRates?.(1) ?? { gate: 0.01 };
  return sora.controller?.(layersOf(sora, sites, config), config, given)?.scalars(1, rates) ?? {};
};
const warningsOf = async (work: () => unknown): Promise<string[]> => {
  const warnings: string[] = [];
  const restore = onWarning((message) => warnings.push(message));
  await work();
  restore();
  return warnings;
};

describe("the gates' learning rate", () => {
  it('is raised until the greatest gate can come to zero before ranks are chosen', () => {
    const until = (last: number): number =>
      Array.from({ length: last - 4 }, (_, at) => 0.01 * (at + 5)).reduce((a, b) => a + b);
    const fixed = scalarsOf({ gateRateFactor: 'auto', gateInit: 'ones', sparseLambda: 0.5 });
    expect(fixed.gateRateFactor).toBeCloseTo(1, 12); // 2 until the end, more than 1
    const { gateRateFactor = NaN } = scalarsOf({ gateRateFactor: 'auto', gateInit: 'ones', budget: 32 });
    expect(gateRateFactor).toBeCloseTo(1 / until(14), 12); // 0.95
    const slow: TrainPlan = { ...plan, learningRates: () => ({ gate: 0.002 }) };
    const raised = scalarsOf({ gateRateFactor: 'auto', gateInit: 'ones', sparseLambda: 0.5 }, slow);
    expect(raised.gateRateFactor).toBeCloseTo(1 / (16 * 0.002), 10);
    expect(raised.threshold).toBeCloseTo(0.5 * 0.002 * (1 / (16 * 0.002)), 10);
  });

  it('is taken to stay as it is where the rates of the run are not known', () => {
    const { learningRates: _, ...unknown } = plan;
    expect(scalarsOf({ gateRateFactor: 'auto', gateInit: 'ones' }, unknown).gateRateFactor).toBeCloseTo(
      1 / (16 * 0.01),
      10,
    );
  });

  it('moves gates as an optimizer of that rate would', () => {
    const [value, gradient] = [tf.tensor1d([0.5, -1]), tf.tensor1d([0.3, -2e-3])];
    const stepped = (learningRate: number): tf.Tensor =>
      adamW().update({
        value,
        gradient,
        slots: { moment1: tf.tensor1d([0.1, -1e-4]), moment2: tf.tensor1d([1e-2, 1e-6]) },
        learningRate: tf.scalar(learningRate),
        decay: false,
        scalars: { correction1: tf.scalar(0.1), correction2: tf.scalar(0.1) },
      }).value;
    const previous = { gate: value, mask: tf.ones([2]) };
    const ctx = contextOf({ threshold: 0, gateRateFactor: 7 });
    const changed = layerOf(sora, { r: 2, gateRateFactor: 7 }).update?.(
      { gate: stepped(0.01) },
      { previous, gradient: {}, ctx },
    );
    const [found, wanted] = [tensorAt(changed ?? {}, 'gate').dataSync(), stepped(0.07).dataSync()];
    found.forEach((each, at) => expect(each).toBeCloseTo(wanted[at] as number, 6));
  });
});

describe('the warning of a short run', () => {
  it('names how far gates can move and are apart, once, and what to change', async () => {
    const warnings = await warningsOf(async () => {
      await trainToy(attached(), { epochs: 2, learningRate: 1e-3 });
      await trainToy(attached(), { epochs: 2, learningRate: 1e-3 });
    });
    expect(warnings).toHaveLength(1);
    expect(warnings[0]).toMatch(
      /^SoRA: the gates can move by 0\.00\d+ in this run and start \d\.\d apart.*gateRateFactor: 'auto'/,
    );
  });

  it.each([{ gateInit: 'ones' }, { gateRateFactor: 'auto' }, { selection: 'random', budget: 400 }] as const)(
    'is not given with %o',
    async (options) => {
      expect(await warningsOf(() => trainToy(attached(options), { epochs: 2, learningRate: 1e-3 }))).toEqual([]);
    },
  );

  it('is not given when the run is long enough', async () => {
    expect(await warningsOf(() => trainToy(attached(), { epochs: 2, learningRates: { gate: 2 } }))).toEqual([]);
  });
});

describe('a variant', () => {
  it("is the paper's by default, whose options it only names", () => {
    const { variant, ...options } = sora.parseConfig({});
    expect(variant).toBe('paper');
    expect(options).toMatchObject({
      gateInit: 'normal',
      gateRateFactor: 1,
      importance: 'magnitude',
      weightedThreshold: false,
    });
    expect(sora.parseConfig({ variant: 'paper' })).toEqual(sora.parseConfig({}));
    const { layers } = activeAdapter(attached());
    expect(Object.keys(Object.values(layers)[0]?.state ?? {})).toEqual(['mask']);
  });

  it('gives way to an option that is given', () => {
    const { gateInit, ...others } = sora.parseConfig({ variant: 'choosing', gateInit: 'normal' });
    expect(gateInit).toBe('normal');
    expect(others).toMatchObject({ gateRateFactor: 'auto', importance: 'sensitivity', weightedThreshold: true });
  });
});
