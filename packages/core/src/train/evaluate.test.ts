import { beforeAll, describe, expect, it } from 'vitest';
import type { Executor } from '../contracts/executor.js';
import type { EvaluationData } from '../contracts/model.js';
import { referenceExecutor } from '../testing/reference-executor.js';
import { toyEvaluationData, toyModel } from '../testing/toy-model.js';
import { evaluate, predict } from './evaluate.js';

let executor: Executor;
beforeAll(async () => {
  executor = await referenceExecutor();
});

/** Data that keep the largest logit of a row, and what passes through `summarise` and reaches `score`. */
function summarising(): { data: EvaluationData; seen: Map<number, Float32Array>; scored: Float32Array[] } {
  const seen = new Map<number, Float32Array>();
  const scored: Float32Array[] = [];
  const data: EvaluationData = {
    ...toyEvaluationData(),
    summarise(row, outputs) {
      seen.set(row, outputs.slice());
      return Float32Array.of(Math.max(...outputs));
    },
    score(summaries) {
      scored.push(...summaries);
      return { accuracy: 0 };
    },
  };
  return { data, seen, scored };
}

describe('evaluate', () => {
  it('scores what the data make of each row, and keeps nothing else of a batch', async () => {
    const { data, seen, scored } = summarising();
    await evaluate(toyModel(), data, { executor });
    const outputs = await predict(toyModel(), data.batches, { executor });
    expect([...seen.keys()].sort((a, b) => a - b)).toEqual([...outputs.keys()]);
    expect(outputs.map((_, row) => seen.get(row))).toEqual(outputs);
    expect(scored).toEqual(outputs.map((logits) => Float32Array.of(Math.max(...logits))));
    expect(scored.map(({ buffer }) => buffer.byteLength)).toEqual(outputs.map(() => 4)); // no view of a batch's outputs
  });

  it('takes data without summarise by the outputs themselves, each in memory of its own', async () => {
    const outputs: Float32Array[] = [];
    const data: EvaluationData = {
      ...toyEvaluationData(),
      score(rows) {
        outputs.push(...rows);
        return {};
      },
    };
    await evaluate(toyModel(), data, { executor });
    expect(outputs).toEqual(await predict(toyModel(), data.batches, { executor }));
    expect(outputs.every(({ buffer, byteLength }) => buffer.byteLength === byteLength)).toBe(true);
  });
});
