import { adalora, type AdaloraConfig } from '@peftjs/adalora';
import { activeAdapter, attach, predict, train, type Executor, type PeftModel } from '@peftjs/core';
import { floats, tensorAt } from '@peftjs/core/method';
import { nonZeroIndices } from '@peftjs/core/linalg';
import { relativeDistance, toyEvaluationData, toyModel, toyTrainingData } from '@peftjs/conformance';
import { compiled, eager } from '@peftjs/engine';
import { describe, expect, it } from 'vitest';

const executors: readonly [name: string, open: () => Executor | Promise<Executor>][] = [
  ['compiled', () => compiled({ threads: 1 })],
  ['eager on WebAssembly', () => eager({ backend: 'wasm' })],
  ['eager on the CPU', () => eager({ backend: 'cpu' })],
];

describe.each(executors)('AdaLoRA after its final mask is compacted, %s', (_, open) => {
  it.each(['svd', 'lora'] as const)(
    'takes the same steps as with the whole tensors, up to rounding: %s',
    async (name) => {
      const executor = await open();
      const [whole, compacted] = [await trained(executor, name, false), await trained(executor, name, true)];
      const outputs = async (peft: PeftModel): Promise<number[]> =>
        (await predict(peft, toyEvaluationData().batches, { executor })).flatMap((row) => [...row]);
      expect(relativeDistance(compacted.losses, whole.losses)).toBeLessThan(1e-5);
      expect(relativeDistance(await outputs(compacted.peft), await outputs(whole.peft))).toBeLessThan(1e-5);
      const { layers, values } = activeAdapter(whole.peft);
      const counts = Object.keys(layers).map((path) => {
        const kept = nonZeroIndices(tensorAt(values, `${path}.mask`));
        const mask = activeAdapter(compacted.peft).values[`${path}.mask`];
        expect(mask ? [...floats(mask)] : []).toEqual(kept.map(() => 1));
        return kept.length;
      });
      expect(counts).toContain(0);
      expect(Math.max(...counts)).toBeGreaterThan(1);
    },
  );
});

/** 24 steps, the last 16 of them after the final mask. */
async function trained(
  executor: Executor,
  parametrization: AdaloraConfig['parametrization'],
  compact: boolean,
): Promise<{ peft: PeftModel; losses: number[] }> {
  const method = adalora({ parametrization, initR: 4, targetR: 1, tfinal: 16, orthRegWeight: 0, compact });
  const peft = attach(toyModel(), method, { seed: 1 });
  const losses: number[] = [];
  await train(peft, toyTrainingData(), {
    executor,
    epochs: 6,
    learningRate: 0.02,
    clipNorm: null, // it includes the gradients of masked singular values
    onStep: ({ loss }) => losses.push(loss),
  });
  return { peft, losses };
}
