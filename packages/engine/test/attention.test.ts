import * as tf from '@tensorflow/tfjs-core';
import type { Tensor } from '@tensorflow/tfjs-core';
import { describe, expect, it, onTestFinished } from 'vitest';
import { onWarning } from '@peftjs/core';
import type { HostTensors, Tensors } from '@peftjs/core/method';
import { attention, maskBias } from '@peftjs/core/nn';
import type { InputSpec } from '@peftjs/core/runtime';
import { referenceExecutor } from '@peftjs/conformance';
import { compiled } from '@peftjs/engine';
import { distance, floats, runOnce, runWith } from './cases.js';

interface Kind {
  readonly heads: number;
  readonly keyHeads: number;
  readonly causal: boolean;
  readonly window?: number;
}

const SIZE = 4;

/** The output of attention, and its gradients for sum(y dy). */
function attended(kind: Kind, t: Tensors): Tensors {
  const [q, k, v, dy, mask] = ['q', 'k', 'v', 'dy', 'mask'].map((name) => t[name]) as [
    Tensor,
    Tensor,
    Tensor,
    Tensor,
    Tensor,
  ];
  let y: Tensor | undefined;
  const { grads } = tf.valueAndGrads((q: Tensor, k: Tensor, v: Tensor) => {
    y = tf.keep(attention(q, k, v, { ...kind, maxTokens: 2000, maskBias: maskBias(mask) }));
    return tf.sum(tf.mul(y, dy));
  })([q, k, v]);
  const [dq, dk, dv] = grads as [Tensor, Tensor, Tensor];
  return { y: y as Tensor, dq, dk, dv };
}

/** The first row is padded from three tokens before its end. */
function inputs({ heads, keyHeads }: Kind, [batch, tokens]: readonly [number, number]): HostTensors {
  const width = { q: heads, k: keyHeads, v: keyHeads, dy: heads };
  const random = Object.entries(width).map(
    ([name, own], seed) => [name, floats([batch, tokens, own * SIZE], -2, 2, seed)] as const,
  );
  const mask = Float32Array.from({ length: batch * tokens }, (_, at) => Number(at < tokens - 3 || at >= tokens));
  return { ...Object.fromEntries(random), mask: { dtype: 'float32', shape: [batch, tokens], data: mask } };
}

function specs({ heads, keyHeads }: Kind): Record<string, InputSpec> {
  const of = (...rest: number[]): InputSpec => ({ dtype: 'float32', shape: ['batch', 'tokens', ...rest] });
  const [wide, narrow] = [of(heads * SIZE), of(keyHeads * SIZE)];
  return { q: wide, k: narrow, v: narrow, dy: wide, mask: of() };
}

describe('compiled attention gives the eager numbers and gradients in one graph for every length', () => {
  it.each([
    // blocks of 128 queries begin at 257 tokens where later keys are hidden, else at 1,025
    ['causal', { heads: 2, keyHeads: 2, causal: true }, [2, 300]],
    ['causal, with shared keys', { heads: 4, keyHeads: 2, causal: true }, [2, 300]],
    ['causal, within a window', { heads: 2, keyHeads: 2, causal: true, window: 150 }, [2, 300]],
    ['of all tokens', { heads: 1, keyHeads: 1, causal: false }, [1, 1100]],
    ['of all tokens, with shared keys', { heads: 2, keyHeads: 1, causal: false }, [1, 1100]],
  ] as const)('%s', async (_, kind, long) => {
    const warnings: string[] = [];
    onTestFinished(onWarning((message) => warnings.push(message))); // of a graph for each size
    const executor = compiled({ threads: 1 });
    const fn = (t: Tensors): Tensors => attended(kind, t);
    const graph = await executor.compile(fn, specs(kind));
    for (const sizes of [[3, 7], long] as const) {
      const given = inputs(kind, sizes);
      const [found, expected] = [
        await runWith(executor, graph, given),
        await runOnce(await referenceExecutor(), fn, given),
      ];
      for (const [key, own] of Object.entries(expected)) expect(distance(found[key], own), key).toBeLessThan(2e-6);
    }
    await graph.dispose();
    expect(warnings).toEqual([]);
  });
});
