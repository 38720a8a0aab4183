import { io, layers, loadLayersModel, sequential } from '@tensorflow/tfjs';
import * as tf from '@tensorflow/tfjs-core';
import { attach, train, type Executor } from '@peftjs/core';
import type { HostTensors } from '@peftjs/core/method';
import { farthestTensor, toyModel, toyTrainingData } from '@peftjs/conformance';
import { compiled, eager, listBackends } from '@peftjs/engine';
import { lora } from '@peftjs/lora';
import { describe, expect, it, vi } from 'vitest';
import { artifactsOf } from '../layers/models.js';
import { tensorFlow } from './built-tensorflow.js';

const { versions } = tensorFlow;

async function fiveSteps(executor: Executor): Promise<{ losses: number[]; values: HostTensors }> {
  const losses: number[] = [];
  const { last } = await train(attach(toyModel(), lora({ r: 4 }), { seed: 2 }), toyTrainingData(5, 5), {
    executor,
    epochs: 1,
    learningRate: 0.02,
    onStep: ({ loss }) => losses.push(loss),
  });
  return { losses, values: last.values };
}

describe.skipIf(versions === undefined)(`native TensorFlow (${tensorFlow.where})`, () => {
  it('starts silently, and leaves the process its backend and its TensorFlow.js', async () => {
    const spies = [vi.spyOn(console, 'warn'), vi.spyOn(console, 'error'), vi.spyOn(process.stderr, 'write')];
    const kernel = tf.getKernel('Add', 'cpu');
    const { info } = await eager({ backend: 'tensorflow' });
    expect(spies.map((spy) => spy.mock.calls)).toEqual([[], [], []]);
    vi.restoreAllMocks();
    expect(info).toMatchObject({ executor: 'eager', backend: 'tensorflow', versions });
    expect([tf.getBackend(), tf.getKernel('Add', 'cpu')]).toEqual(['cpu', kernel]);
  });

  it('leaves the process the classes of its layers', async () => {
    await eager({ backend: 'tensorflow' });
    const model = sequential({ layers: [layers.dense({ units: 2, inputShape: [3] })] });
    const loaded = await loadLayersModel(io.fromMemory(await artifactsOf(model)));
    expect(loaded.layers.map(({ constructor }) => constructor)).toEqual([layers.dense({ units: 2 }).constructor]);
  });

  it("is the choice of 'auto', and is listed", async () => {
    expect((await eager()).info.backend).toBe('tensorflow');
    const reports = await listBackends();
    expect(reports.find(({ backend }) => backend === 'tensorflow')).toMatchObject({
      executor: 'eager',
      available: true,
    });
  });

  it('takes the same five LoRA steps as the compiled engine', async () => {
    const [eagerly, atOnce] = [await fiveSteps(await eager()), await fiveSteps(compiled({ threads: 1 }))];
    const { name, distance } = farthestTensor(eagerly.values, atOnce.values);
    expect(distance, name).toBeLessThan(1e-4);
    eagerly.losses.forEach((loss, step) => {
      expect(loss).toBeCloseTo(atOnce.losses[step] as number, 4);
    });
    expect(eagerly.losses).toHaveLength(5);
  });
});
