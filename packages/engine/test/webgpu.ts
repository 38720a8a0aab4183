import type { Tensor } from '@tensorflow/tfjs-core';
import type { Executor } from '@peftjs/core';
import { compiled } from '@peftjs/engine';
import type { OrtTensor } from '@peftjs/engine';
import { floats, runOnce } from './cases.js';

/** The compiled executor on WebGPU, or the reason why this machine has none. */
export const webgpu: { readonly executor?: Executor<OrtTensor>; readonly skipped?: string } = await onWebgpu();

async function onWebgpu(): Promise<typeof webgpu> {
  const executor = compiled({ threads: 1, executionProviders: ['webgpu'] });
  try {
    await runOnce(executor, ({ x }) => ({ y: x as Tensor }), { x: floats([1]) });
    return { executor };
  } catch (error) {
    return { skipped: (error as Error).message };
  }
}
