import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { attach, defineMethod } from '../adapter/attach.js';
import { fullLayer } from '../adapter/layers.js';
import { targetEntries } from '../adapter/targets.js';
import type { CallableMethod, TargetConfig } from '../contracts/method.js';
import { parseOptions } from '../config.js';
import type { Executor } from '../contracts/executor.js';
import { UnsupportedError } from '../errors.js';
import { referenceExecutor, toyModel, toyTrainingData } from '@peftjs/conformance';
import type { StepEvent } from './options.js';
import { train } from './train.js';

/** Trains its sites in full, with a constant term in the objective. */
function penalised(term: number): CallableMethod<TargetConfig> {
  const unsupported = (): never => {
    throw new UnsupportedError('only trained here');
  };
  return defineMethod<TargetConfig>({
    name: 'penalised',
    capabilities: { mergeable: false, identityAtInit: true, adaptsRank: false, kinds: ['linear'] },
    parseConfig: (input) => parseOptions('penalised', targetEntries, input),
    adapt: (sites, _, { frozen }) =>
      Object.fromEntries(
        sites.map((site) => [
          site.path,
          { ...fullLayer(site, frozen(site.path), 'default'), loss: () => tf.scalar(term) },
        ]),
      ),
    peftTypes: [],
    toFile: unsupported,
    fromFile: unsupported,
  });
}

let executor: Executor;
beforeAll(async () => {
  executor = await referenceExecutor();
});

async function firstStep(term: number, more: object = {}): Promise<StepEvent> {
  const peft = attach(toyModel(), penalised(term)({ targetModules: ['query'] }), { seed: 1 });
  const steps: StepEvent[] = [];
  const onStep = (event: StepEvent): void => void steps.push(event);
  await train(peft, toyTrainingData(), { executor, epochs: 1, learningRate: 0.01, onStep, ...more });
  return steps[0] ?? expect.fail('no step');
}

describe('a step reports', () => {
  it.each([{}, { gradientAccumulationSteps: 2 }])(
    'the loss on the data as loss, and the minimised value as objective: %o',
    async (more) => {
      const [plain, with2] = [await firstStep(0, more), await firstStep(0.25, more)]; // added by each of two modules
      expect(plain.objective).toBeCloseTo(plain.loss, 6);
      expect(with2.loss).toBeCloseTo(plain.loss, 6);
      expect(with2.objective).toBeCloseTo(plain.loss + 0.5, 6);
    },
  );

  it('which of the two is not finite', async () => {
    await expect(firstStep(Infinity)).rejects.toThrow(
      /^step 1, before any update: the objective is Infinity, but the loss on the data is [\d.]+: check the terms that penalised adds to it$/,
    );
  });
});
