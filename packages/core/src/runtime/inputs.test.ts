import { describe, expect, it } from 'vitest';
import { ShapeError } from '../errors.js';
import { toyEvaluationData, toyModel, referenceExecutor } from '@peftjs/conformance';
import { fullLayer } from '../adapter/layers.js';
import { frozenModule } from '../adapter/attach.js';
import type { Executor } from '../contracts/executor.js';
import type { Batch } from '../contracts/model.js';
import { hostIntegers, hostTensor, hostZeros, tensorAt, type HostTensor } from '../tensors.js';
import { partName } from '../adapter/scope.js';
import { quantized } from '../quantized.js';
import { axesOfLabels, axisSizes, dynamicSpecs, modelInputs } from './inputs.js';
import { frozenWeights, openRuntime } from './runtime.js';

const model = toyModel();
const [batch] = toyEvaluationData().batches;

describe('frozenWeights', () => {
  it('leaves out tables on the host and modules trained in full, but not names with the same prefix', () => {
    const weights = { ...model.weights, 'embeddings.norm.weight': hostZeros([8]) };
    const site = tensorAt(Object.fromEntries(model.sites.map((each) => [each.path, each])), 'classifier');
    const whole = { classifier: fullLayer(site, frozenModule(model, 'classifier'), 'head') };
    const names = Object.keys(frozenWeights({ ...model, weights }, whole));
    expect(names).not.toContain('embeddings.weight');
    expect(names).not.toContain('classifier.bias');
    expect(names).toContain('embeddings.norm.weight');
  });
});

it('the sizes of axes are those of an image in patches, too', () => {
  const [pixels, ofBatch] = [hostZeros([4, 3, 32, 48]), batch as Batch];
  const images = { ...model, lookups: [], axes: { pixelValues: ['batch', 3, '16*height', '16*width'] } };
  const given = {
    ...ofBatch,
    inputs: { pixelValues: pixels },
    rowWeights: hostZeros([4]),
    labels: hostIntegers(new Int32Array(4), [4]),
  };
  expect(axisSizes(images, {}, given)).toEqual({ batch: 4, height: 2, width: 3 });
});

it('rows that a table does not have are refused, also if the table is adapted', () => {
  const [{ site, ids } = { site: '', ids: '' }] = model.lookups;
  const inputs = { ...batch?.inputs, [ids]: hostIntegers(Int32Array.of(-1), [1, 1]) };
  for (const layers of [{}, { [site]: {} as never }]) {
    expect(() => modelInputs(model, layers, { inputs })).toThrow(`row -1 is not in '${site}'`);
  }
});

it('weights that are one tensor have names of their own on an executor', async () => {
  const runtime = openRuntime(
    { ...model, sites: [], lookups: [], weights: { a: hostZeros([1]), b: hostZeros([1]) } },
    await referenceExecutor(),
  );
  const shared = hostZeros([1]);
  const alike = openRuntime(
    { ...model, sites: [], lookups: [], weights: { a: shared, b: shared } },
    await referenceExecutor(),
  );
  expect(Object.keys(alike.frozen({}).values)).toEqual(Object.keys(runtime.frozen({}).values));
  await runtime.close();
  await alike.close();
});

it('labels have a number per token if they are whole, else one per class, though there be as many tokens', () => {
  const sizes = { rows: 4, tokens: 3 };
  const shapeOf = (labels: HostTensor) => dynamicSpecs({ labels }, sizes, axesOfLabels('labels', labels)).labels.shape;
  expect(shapeOf(hostIntegers(new Int32Array(12), [4, 3]))).toEqual(['batch', 'tokens']);
  expect(shapeOf(hostZeros([4, 3]))).toEqual(['batch', 3]);
  expect(shapeOf(hostZeros([4]))).toEqual(['batch']);
});

describe('a frozen weight in 8 bits', () => {
  const weight = quantized(hostTensor(Float32Array.of(1, -2, 3, 4), [2, 2]));
  const { dtype, shape, data, parts } = weight;
  const held = async (given: HostTensor, takesBytes: boolean) => {
    const reference = await referenceExecutor();
    const executor: Executor = {
      ...reference,
      upload: (tensor) => tensor,
      release: () => undefined,
      ...(takesBytes && { uploadBytes: (bytes) => bytes }),
    };
    const runtime = openRuntime({ ...model, sites: [], lookups: [], weights: { 'a.weight': given } }, executor);
    const { values: frozen } = runtime.frozen({});
    await runtime.close();
    return frozen;
  };

  it('is held as bytes and scales, and its floats are never computed', async () => {
    const bytesAlone = Object.defineProperty({ ...weight }, 'data', {
      get: () => expect.fail('the floats of every weight take seconds'),
    });
    expect(await held(bytesAlone, true)).toEqual({
      'a.weight': parts.values,
      [partName('a.weight', 'scale')]: parts.scale,
    });
  });

  it('is expanded to float32 for an executor that takes no bytes', async () => {
    expect(await held(weight, false)).toEqual({ 'a.weight': { dtype, shape, data } });
  });
});

describe('modelInputs', () => {
  it('gathers the rows of a frozen embedding on the host', () => {
    const inputs = batch && modelInputs(model, {}, batch);
    const [first = -1] = inputs?.inputIds?.data ?? [];
    expect(inputs?.embeddings?.shape).toEqual([8, 5, 8]);
    expect(inputs?.embeddings?.data.slice(0, 8)).toEqual(
      model.weights['embeddings.weight']?.data.slice(8 * first, 8 * first + 8),
    );
  });

  it('rejects rows with more tokens than the model reads', () => {
    const short = { ...model, maxTokens: 4 };
    const inputs = (): unknown => batch && modelInputs(short, {}, batch);
    expect(inputs).toThrow(ShapeError);
    expect(inputs).toThrow(/^toy-encoder reads at most 4 tokens, got 5: cut the sequences$/);
    expect(batch && modelInputs({ ...model, maxTokens: 5 }, {}, batch)).toBeDefined();
  });

  it('names the row that a tokenizer got wrong', () => {
    const inputIds = hostIntegers(Int32Array.of(3, 24), [1, 2]);
    const wrong = { ...batch, inputs: { inputIds } } as NonNullable<typeof batch>;
    expect(() => modelInputs(model, {}, wrong)).toThrow(ShapeError);
    expect(() => modelInputs(model, {}, wrong)).toThrow(/row 24 is not in 'embeddings', which has 24 rows/);
  });
});
