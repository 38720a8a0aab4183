import { expect, it } from 'vitest';
import {
  activeAdapter,
  addAdapter,
  deleteAdapter,
  disableAdapter,
  loadAdapter,
  loadPretrained,
  memoryStorage,
  onWarning,
  predict,
  savePretrained,
  setAdapter,
  unload,
  type PeftModel,
} from '@peftjs/core';
import { ConfigError, type TargetConfig } from '@peftjs/core/method';
import { baseParameters } from '@peftjs/core/model';
import { toyEvaluationData, toyModel } from './toy-model.js';
import { expectApart, expectClose, outputsOf, trained, type Suite } from './suite.js';

const { batches } = toyEvaluationData(2, 2);

/** Returns a function that makes a model with two trained adapters, 'default' (active) and 'second'. */
export function twoAdapters<C extends TargetConfig>(suite: Suite<C>): () => Promise<PeftModel<C>> {
  return async () => {
    const [peft, second] = await Promise.all([trained(suite), trained(suite, 2, 9)]);
    const storage = memoryStorage();
    await savePretrained(second, 'second', { storage, pruned: false });
    await loadAdapter(peft, 'second', { methods: [suite.method], storage, adapterName: 'second' });
    return peft;
  };
}

/** Runs `act` without printing its warnings. */
export function quietly(act: () => void): void {
  const restore = onWarning(() => undefined);
  act();
  restore();
}

/**
 * Returns whether this model's two adapters can be active together. They cannot if they train a module in full, or its
 * bias.
 */
export function canActTogether({ adapters }: PeftModel): boolean {
  return [...adapters.values()].every(({ layers }) => Object.values(layers).every(({ ignoresBase }) => !ignoresBase));
}

/** Tests several adapters on one model: activation, deletion, mixed batches and folders. */
export function testSeveralAdapters<C extends TargetConfig>(suite: Suite<C>): void {
  const fresh = twoAdapters(suite);
  const outputs = (model: Parameters<typeof outputsOf>[0]): Promise<number[]> => outputsOf(model, suite);
  testActivation(fresh, outputs);
  testRemoval(fresh, outputs);
  testRows(suite, fresh);
  testFolders(suite, fresh, outputs);
}

type Fresh = () => Promise<PeftModel>;
type Outputs = (model: Parameters<typeof outputsOf>[0]) => Promise<number[]>;

function testActivation(fresh: Fresh, outputs: Outputs): void {
  it('activates the adapter that is set, and no other', async () => {
    const peft = await fresh();
    const first = await outputs(peft);
    setAdapter(peft, 'second');
    const second = await outputs(peft);
    expectApart(second, first);
    setAdapter(peft, 'default');
    expect(await outputs(peft)).toEqual(first);
  });
  it('rejects a name that is in use or unknown, and changes nothing', async () => {
    const peft = await fresh();
    const before = { ...peft, adapters: new Map(peft.adapters) };
    const { method, config } = activeAdapter(peft);
    expect(() => {
      addAdapter(peft, { method, config }, { adapterName: 'second' });
    }).toThrow(ConfigError);
    expect(() => {
      setAdapter(peft, ['second', 'third']);
    }).toThrow(expect.objectContaining({ code: 'PEFT_CONFIG', path: 'adapterName' }));
    expect(() => {
      deleteAdapter(peft, 'third');
    }).toThrow(ConfigError);
    expect({ ...peft }).toEqual({ ...before });
  });
  it('activates both, one building on the other, or says that it cannot', async () => {
    const peft = await fresh();
    if (!canActTogether(peft)) {
      expect(() => {
        setAdapter(peft, ['default', 'second']);
      }).toThrow(expect.objectContaining({ code: 'PEFT_CONFIG', path: 'active' }));
      expect(peft.active).toEqual(['default']);
      return;
    }
    const first = await outputs(peft);
    setAdapter(peft, ['default', 'second']);
    const both = await outputs(peft);
    expect(both.every(Number.isFinite)).toBe(true);
    if (Object.keys(activeAdapter(peft).layers).length > 0) expectApart(both, first);
    else expect(both).toEqual(first); // only a head, the first one's
  });
}

function testRemoval(fresh: Fresh, outputs: Outputs): void {
  it('is the frozen model while disabled, also in nested scopes, and unchanged afterwards', async () => {
    const peft = await fresh();
    const [before, base] = [await outputs(peft), await outputs(peft.model)];
    const [outer, inner] = await disableAdapter(peft, async () => [
      await outputs(peft),
      await disableAdapter(peft, () => outputs(peft)),
    ]);
    expect([outer, inner]).toEqual([base, base]);
    expect(await outputs(peft)).toEqual(before);
  });
  it('works after an adapter is deleted, and after all are', async () => {
    const peft = await fresh();
    const first = await outputs(peft);
    deleteAdapter(peft, 'second');
    expect(await outputs(peft)).toEqual(first);
    const other = await fresh();
    quietly(() => {
      deleteAdapter(other, 'default');
    });
    expect(other.active).toEqual(['second']);
    expectApart(await outputs(other), first);
    deleteAdapter(other, 'second');
    expect(await outputs(other)).toEqual(await outputs(other.model));
    expect(() => activeAdapter(other)).toThrow(ConfigError);
  });
  it('returns the original model from unload', async () => {
    const peft = await fresh();
    const bare = unload(peft);
    expect(bare.weights).toEqual(toyModel().weights);
    expect(baseParameters(bare)).toBe(baseParameters(toyModel()));
  });
}

function testRows<C extends TargetConfig>(suite: Suite<C>, fresh: Fresh): void {
  it('applies to each row of a mixed batch its own adapter', async () => {
    const peft = await fresh();
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

function testFolders<C extends TargetConfig>(suite: Suite<C>, fresh: Fresh, outputs: Outputs): void {
  it('saves the selected adapters, each in a folder of its name', async () => {
    const peft = await fresh();
    const storage = memoryStorage();
    await savePretrained(peft, 'all', { storage, pruned: false });
    await savePretrained(peft, 'one', { storage, pruned: false, selectedAdapters: ['second'] });
    expect(await storage.exists('one/adapter_config.json')).toBe(false);
    setAdapter(peft, 'second');
    for (const folder of ['all/second', 'one/second']) {
      const again = await loadPretrained(toyModel(), folder, { methods: [suite.method], storage });
      expectClose(await outputs(again), await outputs(peft));
    }
  });
}
