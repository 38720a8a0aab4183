import { expect, it } from 'vitest';
import { activeAdapter, countParameters } from '@peftjs/core';
import type { TargetConfig } from '@peftjs/core/method';
import { rankUnit } from '@peftjs/core/ranks';
import { adaptedSites, storedParameters } from '@peftjs/core/model';
import { toyEvaluationData, toyModel } from './toy-model.js';
import { attached, trainInSuite, type Suite } from './suite.js';

/** The largest ratio of stored parameters to a budget that still meets it. */
const MAX_SHARE = 1.02;

/** Tests that a budget is met: at every checkpoint that may be selected, or at the start by what is trained. */
export function testBudget<C extends TargetConfig>(suite: Suite<C>): void {
  const { method, config, budgets } = suite;
  const fitBudget = method.fitBudget;
  if (!fitBudget || budgets.length === 0) {
    it.skip(`stores the budget it is fitted to (skipped: ${method.name} has none in this configuration)`);
    return;
  }
  it('stores the budget it is fitted to', async () => {
    const model = toyModel();
    const { matched } = activeAdapter(await attached(suite, { model })).targets;
    const unit = rankUnit(matched);
    for (const budget of budgets.map((ranks) => ranks * unit)) {
      const fitted: Suite<C> = { ...suite, config: fitBudget(matched, budget, method.parseConfig(config)) };
      const peft = await attached(fitted, { model });
      const judged: number[] = [];
      const { last } = await trainInSuite(peft, fitted, {
        epochs: method.controller ? 3 : 1, // without a controller, nothing changes during training
        selection: { data: toyEvaluationData(2, 1), evaluations: 5 },
        onEvaluation({ storedParameters: stored, best }) {
          if (best) judged.push(stored);
        },
      });
      const stored = storedParameters(last.layers, last.values);
      expect(stored / budget).toBeGreaterThan(0.9); // a toy rank is up to a tenth of the budget
      expect(stored).toBeLessThanOrEqual(MAX_SHARE * budget);
      expect(judged.length).toBeGreaterThan(0);
      for (const selected of judged) expect(selected).toBeLessThanOrEqual(MAX_SHARE * budget);
    }
  });
  it('trains the budget it is fitted to, matched on trained parameters', async () => {
    const model = toyModel();
    const { matched } = activeAdapter(await attached(suite, { model })).targets;
    const budget = Math.max(...budgets) * rankUnit(matched);
    const fitted = fitBudget(matched, budget, method.parseConfig(config), 'trained');
    const { trainable } = countParameters(await attached({ ...suite, config: fitted }, { model }));
    expect(Math.abs(trainable / budget - 1)).toBeLessThan(0.1); // a toy rank is up to a tenth of the budget
  });
  it('says so when no adapter is small enough', () => {
    const { matched } = adaptedSites(toyModel(), method, method.parseConfig({}));
    expect(() => fitBudget(matched, 1, method.parseConfig(config))).toThrow(
      expect.objectContaining({ code: 'PEFT_CONFIG', path: 'budget' }),
    );
  });
  it.each(['stored', 'trained'] as const)('rejects a budget larger than the modules can hold, %s', (matchOn) => {
    const { matched } = adaptedSites(toyModel(), method, method.parseConfig({}));
    expect(() => fitBudget(matched, 1e9, method.parseConfig(config), matchOn)).toThrow(
      expect.objectContaining({ path: 'budget', message: expect.stringMatching(/hold at most \d+/) as string }),
    );
  });
}
