import { expect, it } from 'vitest';
import {
  activeAdapter,
  loadAdapter,
  memoryStorage,
  predict,
  savePretrained,
  setAdapter,
  type PeftModel,
} from '@peftjs/core';
import { ConfigError, type TargetConfig } from '@peftjs/core/method';
import { toyEvaluationData } from './toy-model.js';
import { expectApart, expectClose, outputsOf, trained, type Suite } from './suite.js';

const { batches } = toyEvaluationData(2, 2);

/** Returns a model with two trained adapters, 'default' (active) and 'second'. */
export async function twoAdapters<C extends TargetConfig>(suite: Suite<C>): Promise<PeftModel<C>> {
  const [peft, second] = await Promise.all([trained(suite), trained(suite, 2, 9)]);
  const storage = memoryStorage();
  await savePretrained(second, 'second', { storage, pruned: false });
  await loadAdapter(peft, 'second', { methods: [suite.method], storage, adapterName: 'second' });
  return peft;
}

/**
 * Returns whether this model's two adapters can be active together. They cannot if they train a module in full, or its
 * bias.
 */
export function canActTogether({ adapters }: PeftModel): boolean {
  return [...adapters.values()].every(({ layers }) => Object.values(layers).every(({ ignoresBase }) => !ignoresBase));
}

/** Tests several adapters on one model: alone, together, and row by row of a mixed batch. */
export function testSeveralAdapters<C extends TargetConfig>(suite: Suite<C>): void {
  testActivation(suite);
  testRows(suite);
}

function testActivation<C extends TargetConfig>(suite: Suite<C>): void {
  it('activates the adapter that is set, and no other', async () => {
    const peft = await twoAdapters(suite);
    const first = await outputsOf(peft, suite);
    setAdapter(peft, 'second');
    const second = await outputsOf(peft, suite);
    expectApart(second, first);
    setAdapter(peft, 'default');
    expect(await outputsOf(peft, suite)).toEqual(first);
  });
  it('activates both, one building on the other, or says that it cannot', async () => {
    const peft = await twoAdapters(suite);
    if (!canActTogether(peft)) {
      expect(() => {
        setAdapter(peft, ['default', 'second']);
      }).toThrow(expect.objectContaining({ code: 'PEFT_CONFIG', path: 'active' }));
      expect(peft.active).toEqual(['default']);
      return;
    }
    const first = await outputsOf(peft, suite);
    setAdapter(peft, ['default', 'second']);
    const both = await outputsOf(peft, suite);
    expect(both.every(Number.isFinite)).toBe(true);
    if (Object.keys(activeAdapter(peft).layers).length > 0) expectApart(both, first);
    else expect(both).toEqual(first); // only a head, the first one's
  });
}

function testRows<C extends TargetConfig>(suite: Suite<C>): void {
  it('applies to each row of a mixed batch its own adapter', async () => {
    const peft = await twoAdapters(suite);
    const count = batches.reduce((sum, { rows }) => sum + rows.length, 0);
    const adapterNames = Array.from(
      { length: count },
      (_, row) => ['default', 'second', '__base__'][row % 3] as string,
    );
    const executor = await suite.executor();
    const mixed = await predict(peft, batches, { executor, adapterNames });
    const alone: Record<string, Float32Array[]> = { __base__: await predict(peft.model, batches, { executor }) };
    for (const name of ['default', 'second']) {
      setAdapter(peft, name);
      alone[name] = await predict(peft, batches, { executor });
    }
    const own = adapterNames.flatMap((name, row) => [...(alone[name]?.[row] ?? [])]);
    expectClose(
      mixed.flatMap((row) => [...row]),
      own,
    );
    for (const names of [adapterNames.slice(1), adapterNames.map(() => 'third')]) {
      await expect(predict(peft, batches, { executor, adapterNames: names })).rejects.toThrow(ConfigError);
    }
  });
}
