// Vision networks and the text towers beside them, whose graphs and values tools/golden/onnx_images.py made.
import { attach, hostTensor, memoryStorage, onWarning, type Batch } from '@peftjs/core';
import { relativeDistance } from '@peftjs/conformance';
import { hostIntegers, sizeOf, type HostTensor } from '@peftjs/core/method';
import { compiled } from '@peftjs/engine';
import { lora } from '@peftjs/lora';
import { fromOnnx, type OnnxModel } from '@peftjs/onnx';
import { readSafetensors } from '@peftjs/safetensors';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { expectGradientsOfPeft, GRADIENTS } from './gradients.js';
import { exporters } from './onnx.js';
import { golden, goldenValues, outputsOfAll, type Tiny } from './tiny.js';
import { visionFile, visionGraph } from './vision.js';

const TOLERANCE = 1e-4;
/** The modules of each network that compute its output. */
const networks = {
  vit: ['classifier'],
  deit: ['classifier'],
  dinov2: ['classifier'],
  'clip-vision': ['visual_projection'],
  'clip-text': ['text_projection'],
  'siglip-vision': ['head.mlp.fc2'],
  'siglip-text': ['head'],
  siglip: ['classifier'],
} as const;
type Network = keyof typeof networks;

const expected = readSafetensors(visionFile('expected.safetensors'));
const of = (network: Network): Pick<Tiny, 'expected'> => ({
  expected: new Map(
    Array.from(expected).flatMap(([key, value]) =>
      key.startsWith(`${network}/`) ? [[key.slice(network.length + 1), value] as const] : [],
    ),
  ),
});
const executor = compiled({ threads: 1 });
const warnings: string[] = [];
const stop = onWarning((message) => warnings.push(message));
afterAll(stop);
afterEach(() => expect(warnings).toEqual([]));

const numbered = (rows: number): Int32Array => Int32Array.from({ length: rows }, (_, row) => row);
const sides = (network: Network, number: number): readonly [number, number] =>
  (network === 'dinov2' &&
    (
      [
        [8, 8],
        [8, 12],
        [16, 8],
      ] as const
    )[number]) || [8, 8];

/** The batches of the script. */
function batchOf(network: Network, number: number): Batch {
  const rows = number + 1;
  const others = {
    labels: hostIntegers(numbered(rows), [rows]),
    rowWeights: hostTensor(new Float32Array(rows).fill(1), [rows]),
    rows: [...numbered(rows)],
  };
  if (network.endsWith('-text')) {
    const [ids, mask] = ['input_ids', 'attention_mask'].map((name) => golden(of(network), `${number}/${name}`));
    const [inputIds, attentionMask] = [ids, mask] as [HostTensor, HostTensor];
    return {
      inputs: {
        inputIds: hostIntegers(Int32Array.from(inputIds.data), inputIds.shape),
        attentionMask: hostTensor(Float32Array.from(attentionMask.data), attentionMask.shape),
      },
      ...others,
    };
  }
  const shape = [rows, 3, ...sides(network, number)];
  const pixels = Float32Array.from({ length: sizeOf(shape) }, (_, place) => Math.sin(place * 0.37));
  return { inputs: { pixelValues: hostTensor(pixels, shape) }, ...others };
}

function load(network: Network, exporter: string): Promise<OnnxModel> {
  const storage = memoryStorage(new Map([['graph/model.onnx', visionGraph(`${network}-${exporter}`)]]));
  return fromOnnx('graph/model.onnx', { storage, newHead: false, head: networks[network] });
}

const cases = (Object.keys(networks) as Network[]).flatMap((network) =>
  exporters.map((exporter) => [network, exporter] as const),
);

describe.each(cases)('%s, exported by the %s exporter', (network, exporter) => {
  it('has the outputs of transformers at three sizes, from one graph', async () => {
    const batches = [0, 1, 2].map((number) => batchOf(network, number));
    const outputs = await outputsOfAll(await load(network, exporter), batches, executor);
    for (const number of batches.keys()) {
      const theirs = goldenValues(of(network), `outputs/${number}`);
      expect(relativeDistance(outputs[number] ?? [], theirs), `batch ${number}`).toBeLessThan(TOLERANCE);
    }
  });

  it("has the loss and the gradients of PEFT's LoRA", async () => {
    const peft = attach(
      await load(network, exporter),
      lora({ r: 2, loraAlpha: 4, targetModules: ['q_proj', 'v_proj'] }),
    );
    const batch = batchOf(network, GRADIENTS);
    await expectGradientsOfPeft(peft, of(network), 'classes', {
      batch,
      executor,
      tolerance: TOLERANCE,
      lossTolerance: TOLERANCE,
    });
  });
});
