import { expect, it } from 'vitest';
import { activeAdapter, predict, withAdapter } from '@peftjs/core';
import type { HostTensors, TargetConfig } from '@peftjs/core/method';
import { gradientsByTape, slopesByDifferences } from './gradients.js';
import { attached, expectApart, expectClose, outputsOf, trained, type Suite } from './suite.js';
import { toyEvaluationData, toyTrainingData } from './toy-model.js';

/** Tests an adapter before training, its gradients, and that it evaluates each row by itself. */
export function testInitialState<C extends TargetConfig>(suite: Suite<C>): void {
  it(
    suite.identityAtInit ? 'leaves the output unchanged before training' : 'changes the output before training',
    async () => {
      const peft = await attached(suite);
      const [adapted, bare] = [await outputsOf(peft, suite), await outputsOf(withAdapter(peft, { layers: {} }), suite)];
      expect(adapted.every(Number.isFinite)).toBe(true);
      if (suite.identityAtInit) expectClose(adapted, bare);
      else expectApart(adapted, bare);
    },
  );
  it('starts the same from the same seed and differently from another', async () => {
    const values = async (seed: number): Promise<HostTensors> => activeAdapter(await attached(suite, { seed })).values;
    expect(await values(3)).toEqual(await values(3));
    expect(await values(3)).not.toEqual(await values(4));
  });
  const skipped = suite.detached && ` (skipped: the backward pass holds ${suite.detached} constant)`;
  it.skipIf(skipped)(
    `has the gradients of finite differences, under dropout of the network${skipped ?? ''}`,
    async () => {
      const peft = await trained(suite);
      const byTape = gradientsByTape(peft, 'config');
      for (const along of [undefined, byTape]) {
        for (const { kind, direction, value, rounding } of slopesByDifferences(peft, 'config', along)) {
          const parts = Object.entries(direction).flatMap(([key, share]) =>
            [...share].map((part, place) => part * (byTape[key]?.[place] ?? NaN)),
          );
          const exact = parts.reduce((sum, part) => sum + part, 0);
          expect(Math.abs(exact - value), kind).toBeLessThan(0.02 * Math.abs(value) + rounding);
        }
      }
    },
  );
  it('computes each row independently of its batch, without dropout', async () => {
    const [peft, executor] = [await trained(suite), await suite.executor()];
    const inOrder = await predict(peft, toyEvaluationData(2, 1).batches, { executor });
    const { heldOut = [] } = toyTrainingData(2, 1).holdOut?.(5) ?? {}; // some of the same rows in another order
    const moved = await predict(peft, heldOut, { executor });
    expect(moved).toHaveLength(5);
    const own = heldOut.flatMap(({ rows }) => rows.flatMap((row) => [...(inOrder[row] ?? [])]));
    expectClose(
      moved.flatMap((row) => [...row]),
      own,
    );
  });
}
