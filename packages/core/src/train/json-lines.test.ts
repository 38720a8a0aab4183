import { expect, it } from 'vitest';
import { attach, defineMethod } from '../adapter/attach.js';
import { referenceExecutor, toyEvaluationData, toyModel, toyTrainingData } from '@peftjs/conformance';
import { wholeModules } from '../../test/whole-modules.js';
import { jsonLines } from './json-lines.js';
import { train } from './train.js';

it('writes every event of a run as one line, before the next step', async () => {
  const lines: string[] = [];
  const write = async (line: string) => {
    await new Promise((resolve) => setTimeout(resolve, 1));
    lines.push(line);
  };
  const peft = attach(toyModel(), defineMethod(wholeModules())({ targetModules: ['query'] }), { seed: 1 });
  await train(peft, toyTrainingData(1, 2), {
    ...{ executor: await referenceExecutor(), epochs: 1, learningRate: 0.01 },
    selection: { data: { ...toyEvaluationData(2, 1), score: () => ({ accuracy: NaN }) }, evaluations: 1 },
    ...jsonLines(write),
  });
  expect(lines.every((line) => line.indexOf('\n') === line.length - 1)).toBe(true);
  const events = lines.map((line) => JSON.parse(line) as object);
  expect(events).toMatchObject([
    { event: 'step', step: 1, totalSteps: 2, loss: expect.any(Number) as number },
    { event: 'step', step: 2, epochs: 1 },
    { event: 'evaluation', step: 2, metrics: { accuracy: null }, primaryMetric: 'accuracy' },
  ]);
});
