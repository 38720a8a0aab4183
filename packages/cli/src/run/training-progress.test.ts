import { stripVTControlCharacters } from 'node:util';
import type { EvaluationEvent, StepEvent } from '@peftjs/core/runtime';
import { describe, expect, it } from 'vitest';
import { kept } from '../../test/streams.js';
import { trainingProgress } from './training-progress.js';

const step = (at: number, more: Partial<StepEvent> = {}): StepEvent => ({
  ...{ step: at, totalSteps: 10, epoch: at > 5 ? 1 : 0, epochs: 2, loss: 0.4321, objective: 0.5, learningRate: 1e-3 },
  ...{ storedParameters: 57_344, milliseconds: 3, scalars: {} },
  ...more,
});
const evaluation: EvaluationEvent = {
  ...{ step: 5, metrics: { f1: 0.1, accuracy: 0.9126 }, primaryMetric: 'accuracy' },
  ...{ storedParameters: 57_344, ranks: { query: 3, value: 4 }, best: true },
};

describe('trainingProgress', () => {
  it('redraws one line on a terminal, keeps the last state, and never hides the cursor', () => {
    const { stream, text } = kept(true);
    const { onStep, onEvaluation } = trainingProgress({ name: 'sora\u001b[2J', stream });
    for (let at = 1; at <= 10; at++) {
      onStep(step(at));
      if (at === 5) onEvaluation(evaluation);
    }
    const drawn = stripVTControlCharacters(text()).trim().split('\n');
    const evaluated = drawn.find((line) => line.includes('accuracy'));
    const parts = [
      'sora [2J',
      '50 %',
      'epoch 1/2',
      'loss 0.432',
      'accuracy 0.913',
      'rank 3.5',
      '57.3k params',
      '0:00 left',
    ];
    for (const part of parts) expect(evaluated).toContain(part);
    expect(drawn.at(-1)).toContain('100 %');
    expect(text()).not.toContain('\u001b[?25l');
  });

  it.each([
    ['to other streams', false, 24],
    ['on a terminal of unknown size', true, 0],
  ])('writes nothing %s', (_, isTTY, rows) => {
    const { stream, text } = kept(isTTY, 120, rows);
    const { onStep, onEvaluation } = trainingProgress({ stream });
    onStep(step(5));
    onEvaluation(evaluation);
    onStep(step(10));
    expect(text()).toBe('');
  });

  it('shows how far an evaluation is, and for how long it goes on, until the next step', () => {
    const { stream, text } = kept(true, 200);
    const { onStep, onEvaluating } = trainingProgress({ stream });
    onStep(step(5));
    const shown = / \d+ % {2}evaluating [\d,]+ of 1,000,000,000 rows {2}epoch 1\/2 .* left/;
    for (let rows = 1; !shown.test(stripVTControlCharacters(text())); rows++) onEvaluating({ rows, totalRows: 1e9 });
    onStep(step(10));
    expect(stripVTControlCharacters(text()).trim().split('\n').at(-1)).not.toContain('evaluating');
  });

  it('leaves out a rank or metric that does not exist', () => {
    const { stream, text } = kept(true);
    const { onStep } = trainingProgress({ stream });
    onStep(step(10));
    const drawn = stripVTControlCharacters(text()).trim();
    expect(drawn).toMatch(/^training {2}━+ {2}100 % {2}epoch 2\/2 {2}loss 0\.432 {2}57\.3k params$/);
  });

  it.each([
    [{ nam: 'x' }, /trainingProgress: option 'nam' is unknown \(did you mean 'name'\?\)/],
    [{ stream: 'stderr' }, /trainingProgress: option 'stream' is 'stderr'; expected a stream to write to$/],
  ])('refuses %o', (options, message) => {
    expect(() => trainingProgress(options as object)).toThrow(message);
  });
});
