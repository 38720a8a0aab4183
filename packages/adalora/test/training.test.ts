import { adalora } from '@peftjs/adalora';
import { activeRanks, attach, storedParameters, train } from '@peftjs/core';
import { referenceExecutor, toyModel, toyTrainingData } from '@peftjs/core/testing';
import { expect, it } from 'vitest';

it('ends within 1 percent of a budget in parameters, with uneven ranks', async () => {
  const { matched } = attach(toyModel(), adalora()).adapter.targets;
  const budget = 600;
  const fitted = adalora.fitBudget?.(matched, budget, adalora.parseConfig({ orthRegWeight: 0.1 }));
  const peft = attach(toyModel(), adalora(fitted), { seed: 1 });
  const stored: number[] = [];
  await train(peft, toyTrainingData(), {
    executor: await referenceExecutor(),
    epochs: 20,
    learningRate: 0.02,
    onStep: (event) => stored.push(event.storedParameters),
  });
  const { layers, values } = peft.adapter;
  expect(storedParameters(layers, values)).toBeLessThanOrEqual(budget);
  expect(storedParameters(layers, values)).toBeGreaterThanOrEqual(0.99 * budget);
  expect(new Set(Object.values(activeRanks(layers, values))).size).toBeGreaterThan(1);
  expect(new Set(stored.slice(-20)).size).toBe(1);
});
