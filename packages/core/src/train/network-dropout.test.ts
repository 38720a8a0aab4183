import { beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { referenceExecutor, toyModel, toyTrainingData } from '@peftjs/conformance';
import { wholeModules } from '../../test/whole-modules.js';
import { attach, defineMethod } from '../adapter/attach.js';
import { onWarning } from '../config.js';
import type { Executor } from '../contracts/executor.js';
import type { TrainOptions } from './options.js';
import type { TrainingSnapshot } from './snapshot.js';
import { train } from './train.js';

/* Dropout of the frozen network itself, which fine-tuning in transformers has by default. */

let executor: Executor;
beforeAll(async () => {
  executor = await referenceExecutor();
});

const data = toyTrainingData(1, 2);
const method = defineMethod(wholeModules())({ targetModules: ['query', 'value'] });

/** The losses of two epochs of two steps, and the values in the end. */
async function trained(options: Partial<TrainOptions> = {}, { seed = 1, model = toyModel() } = {}) {
  const losses: number[] = [];
  const { last } = await train(attach(model, method, { seed }), data, {
    ...{ executor, epochs: 2, learningRate: 0.05 },
    onStep: ({ loss }) => losses.push(loss),
    ...options,
  });
  return { losses, values: last.values };
}

describe('dropout of the network', () => {
  it('is off by default, to the bit', async () => {
    const without = await trained({}, { model: { ...toyModel(), dropouts: {} } });
    expect(await trained()).toEqual(without);
    expect(await trained({ dropout: 0 })).toEqual(without);
  });

  it("has the rates of the network's configuration, or one rate at all of its places", async () => {
    const places = Object.keys(toyModel().dropouts ?? {});
    const all = (rate: number) => ({ ...toyModel(), dropouts: Object.fromEntries(places.map((name) => [name, rate])) });
    expect(await trained({ dropout: 0.3 })).toEqual(await trained({ dropout: 'config' }, { model: all(0.3) }));
    const [own, other, none] = [await trained({ dropout: 'config' }), await trained({ dropout: 0.3 }), await trained()];
    expect(own.losses).not.toEqual(other.losses);
    expect(own.losses).not.toEqual(none.losses);
  });

  it('draws other masks at every place, step and seed', async () => {
    const places = Object.keys(toyModel().dropouts ?? {});
    const only = (place: string) => ({ ...toyModel(), dropouts: { [place]: 0.5 } });
    const runs = [await trained({ dropout: 'config' }, { seed: 1 }), await trained({ dropout: 'config' }, { seed: 2 })];
    for (const place of places) runs.push(await trained({ dropout: 'config' }, { model: only(place) }));
    const all = runs.flatMap(({ losses }) => losses);
    expect(new Set(all).size).toBe(all.length);
  });

  it('resumes to the same numbers, and only with the same rate', async () => {
    const snapshots: TrainingSnapshot[] = [];
    const options = {
      dropout: 'config',
      saveEvery: 2,
      onSnapshot: (snapshot: TrainingSnapshot) => snapshots.push(snapshot),
    } as const;
    const { values } = await trained(options);
    const [resume] = snapshots as [TrainingSnapshot];
    expect((await trained({ dropout: 'config', resume })).values).toEqual(values);
    await expect(trained({ dropout: 0.1, resume })).rejects.toThrow('dropout was "config" and is now 0.1');
    await expect(trained({ resume })).rejects.toThrow('dropout was "config" and is now not set');
  });

  it('is said to have no effect on a model without places for it', async () => {
    const warnings: string[] = [];
    onTestFinished(onWarning((line) => warnings.push(line)));
    await trained({ dropout: 0.1 }, { model: { ...toyModel(), name: 'undropped', dropouts: {} } });
    expect(warnings).toEqual(['dropout has no effect: undropped has no places for it']);
  });

  it('needs a rate below 1, or the word config', async () => {
    await expect(trained({ dropout: 1 })).rejects.toThrow(
      "option 'dropout' is 1; expected 'config' or a rate in [0, 1)",
    );
    await expect(trained({ dropout: 'base' as 'config' })).rejects.toThrow(/'config'/);
  });
});
