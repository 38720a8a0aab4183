import * as tf from '@tensorflow/tfjs';
import { beforeAll, describe, expect, it } from 'vitest';
import type { Executor } from '../contracts/executor.js';
import type { Batch } from '../contracts/model.js';
import { referenceExecutor } from '../testing/reference-executor.js';
import { toyEvaluationData, toyModel } from '../testing/toy-model.js';
import { floats, hostTensor, specOf, tensorAt } from '../tensors.js';
import { openSession, type Pass } from './session.js';

let executor: Executor;
beforeAll(async () => {
  executor = await referenceExecutor();
});

const model = toyModel();
const [batch] = toyEvaluationData().batches as [Batch];

/** Logits, added to those of the passes before. */
const adding: Pass = {
  name: 'adding',
  compute: (scope, inputs) => ({ sum: tf.add(tensorAt(inputs, 'sum'), model.forward(scope, inputs)) }),
};

describe('a pass of the caller', () => {
  it('reads what is carried from the one before, and is compiled once', async () => {
    let compilations = 0;
    const counting: Executor = {
      ...executor,
      compile(fn, inputs) {
        compilations++;
        return executor.compile(fn, inputs);
      },
    };
    const session = openSession(model, { layers: {}, saved: {} }, counting);
    const logits = await session.predict({}, batch);
    const start = hostTensor(new Float32Array(logits.data.length), logits.shape);
    const carried = (values: Record<string, unknown>) => ({ carried: { values, specs: { sum: specOf(start) } } });
    const first = session.upload({ sum: start });
    const second = await session.run(adding, {}, batch.inputs, carried(first));
    const third = await session.run(adding, {}, batch.inputs, carried(second));
    const sumOf = async (values: Record<string, unknown>) => floats(tensorAt(await session.download(values), 'sum'));
    expect(await sumOf(first)).toEqual(floats(start));
    expect(await sumOf(second)).toEqual(floats(logits));
    expect(await sumOf(third)).toEqual(floats(logits).map((logit) => 2 * logit));
    expect(compilations).toBe(2);
    [first, second, third].forEach(session.release);
    await session.dispose();
  });
});
