import {
  activeAdapter,
  adamW,
  attach,
  loadPretrained,
  memoryStorage,
  savePretrained,
  train,
  withAdapter,
  type PeftModel,
} from '@peftjs/core';
import type { HostTensors } from '@peftjs/core/method';
import { ADAPTER_WEIGHTS } from '@peftjs/core/model';
import { farthestTensor } from '@peftjs/conformance';
import { readFile } from 'node:fs/promises';
import { beforeAll, describe, expect, it } from 'vitest';
import { executor, fixtures, methods, model, readJson, tensorsOf, TOLERANCE, trainingData } from './bert.js';

/** Written by tools/golden/peft_steps.py: every method from PEFT's initial values, with torch's AdamW. */
const expected = readJson('steps/expected.json') as {
  steps: number[];
  optimizer: { lr: number; betas: [number, number]; eps: number; weight_decay: number };
  losses: Record<string, { loss: number[]; objective: number[] }>;
};

/** Options where PEFT differs from the papers, which are our defaults. */
const asInPeft: Readonly<Record<string, object>> = {
  adalora: { orthRegularizer: 'unsquared-mean', allocator: 'released' },
};

/** Ten steps: the losses, and the adapter after every step. */
interface Course {
  readonly losses: { loss: number[]; objective: number[] };
  readonly adapters: Record<number, PeftModel>;
}

/** PEFT's initial adapter, trained with PEFT's variants of the methods. */
async function initialAdapter(name: string): Promise<PeftModel> {
  const adapter = activeAdapter(await loadPretrained(model, `${fixtures}/steps/${name}`, { methods }));
  const { method, config, values } = adapter;
  const peft = attach(model, { method, config: method.parseConfig({ ...config, ...asInPeft[name] }) });
  return withAdapter(peft, { values });
}

async function trained(name: string): Promise<Course> {
  const peft = await initialAdapter(name);
  const { lr, betas, eps, weight_decay: weightDecay } = expected.optimizer;
  const course: Course = { losses: { loss: [], objective: [] }, adapters: {} };
  await train(peft, trainingData, {
    executor,
    epochs: 1,
    learningRate: lr,
    schedule: 'constant',
    warmupRatio: 0,
    optimizer: adamW({ weightDecay, beta1: betas[0], beta2: betas[1], epsilon: eps }),
    clipNorm: null,
    saveEvery: 1,
    onSnapshot: ({ step, adapter: values }) => void (course.adapters[step] = withAdapter(peft, { values })),
    onStep({ loss, objective }) {
      course.losses.loss.push(loss);
      course.losses.objective.push(objective);
    },
  });
  course.adapters[trainingData.batchesPerEpoch] = peft;
  return course;
}

/** Every trained tensor, including the head's, as in the file. */
async function onDisk(peft: PeftModel): Promise<HostTensors> {
  const storage = memoryStorage();
  await savePretrained(peft, 'adapter', { storage, pruned: false });
  return tensorsOf(await storage.read(`adapter/${ADAPTER_WEIGHTS}`));
}

describe.each(Object.entries(expected.losses))('%s with AdamW, as in torch', (name, losses) => {
  let course: Course;
  beforeAll(async () => {
    course = await trained(name);
  });

  it('has the same losses', () => {
    for (const kind of ['loss', 'objective'] as const) {
      expect(course.losses[kind]).toHaveLength(losses[kind].length);
      losses[kind].forEach((loss, step) => expect(course.losses[kind][step]).toBeCloseTo(loss, 4));
    }
  });

  it.each(expected.steps)('has the same tensors after step %i', async (step) => {
    const theirs = tensorsOf(await readFile(`${fixtures}/steps/${name}/after-${step}.safetensors`));
    const peft = course.adapters[step];
    expect(peft).toBeDefined();
    expect(farthestTensor(await onDisk(peft as PeftModel), theirs).distance).toBeLessThan(TOLERANCE);
  });
});
