// Files that lie: each is refused by name, before anything large is allocated.
import { memoryStorage } from '@peftjs/core';
import { CheckpointError, ConfigError, UnsupportedError } from '@peftjs/core/method';
import { describe, expect, it, test } from 'vitest';
import { fromOnnx, type OnnxOptions } from '../index.js';
import { nodeProto, floatsProto, intsProto, portProto } from '../write/protos.js';
import { modelProto } from '../../test/model-proto.js';
import { written, type Fields } from './message.js';

const table = floatsProto('words.weight', [4, 2], new Float32Array(8).fill(1));
const read = nodeProto('Gather', ['words.weight', 'input_ids'], 'x');
const ids = portProto('input_ids', ['batch', 'tokens']);
const out = portProto('y', ['batch', 'tokens', 2]);
const relu = nodeProto('Relu', ['x'], 'y');

/** A model of these nodes and tensors. */
function model(
  nodes: readonly Uint8Array[],
  tensors: readonly Uint8Array[] = [table],
  more: Fields = {},
  opset = 17,
): Uint8Array {
  return modelProto({ 1: nodes, 5: tensors, 11: ids, 12: out, ...more }, opset);
}

/** A tensor of float32 whose numbers are in another file. */
function external(location: string, entries: Readonly<Record<string, string>> = {}): Uint8Array {
  const all = Object.entries({ location, ...entries }).map(([key, value]) => ({ 1: key, 2: value }));
  return written({ 1: [4, 2], 2: 1, 8: 'words.weight', 13: all, 14: 1 });
}

const load = (bytes: Uint8Array, options: OnnxOptions = {}): Promise<unknown> => {
  const files = new Map([
    ['graph/model.onnx', bytes],
    ['graph/weights', new Uint8Array(16)],
    ['secret', new Uint8Array(32)],
  ]);
  return fromOnnx('graph', { storage: memoryStorage(files), task: 'feature-extraction', ...options });
};

it('the graph that the others are made of is read', async () => {
  await expect(load(model([read, relu]))).resolves.toMatchObject({ task: 'feature-extraction' });
});

it('data may be in a file of any other name, which counts as loaded', async () => {
  const name = 'größe (1)/my ..weights';
  const graph = model([read, relu], [external(name)]);
  const storage = memoryStorage(
    new Map([
      ['graph/model.onnx', graph],
      [`graph/${name}`, new Uint8Array(32)],
    ]),
  );
  const bytes: number[] = [];
  const onProgress: OnnxOptions['onProgress'] = ({ loadedBytes, totalBytes }) => bytes.push(loadedBytes, totalBytes);
  await expect(load(graph, { storage, onProgress })).resolves.toMatchObject({ task: 'feature-extraction' });
  expect(bytes).toEqual([graph.length + 32, graph.length + 32]);
});

test.each<[string, Uint8Array, typeof CheckpointError | typeof UnsupportedError, RegExp]>([
  ['nothing', new Uint8Array(), CheckpointError, /no graph/],
  [
    'another format',
    new TextEncoder().encode('PK\u0003\u0004 and more'),
    CheckpointError,
    /not a message of Protocol Buffers/,
  ],
  ['half a file', model([read, relu]).subarray(0, 90), CheckpointError, /not a message of Protocol Buffers/],
  ['opset 10', model([read, relu], [table], {}, 10), UnsupportedError, /opset 10; 11 to 22 are read/],
  ['a node that reads nothing', model([read, nodeProto('Relu', ['z'], 'y')]), CheckpointError, /nothing computes 'z'/],
  ['two nodes for one value', model([read, relu, relu]), CheckpointError, /two nodes compute 'y'/],
  [
    'a cycle',
    model([nodeProto('Add', ['words.weight', 'y'], 'x'), relu]),
    CheckpointError,
    /cycle: '.' depends on itself/,
  ],
  [
    'a cycle of nothing',
    model([nodeProto('Identity', ['y'], 'x'), nodeProto('Identity', ['x'], 'y')]),
    CheckpointError,
    /cycle/,
  ],
  ['one tensor twice', model([read, relu], [table, table]), CheckpointError, /'words.weight' appears twice/],
  [
    'too few numbers',
    model([read, relu], [written({ 1: [2 ** 40, 2], 2: 1, 8: 'words.weight', 9: new Uint8Array(8) })]),
    CheckpointError,
    /has 2199023255552 numbers, the file has 2/,
  ],
  [
    'strings',
    model([read, relu], [written({ 1: 1, 2: 8, 8: 'words.weight', 9: new Uint8Array(8) })]),
    CheckpointError,
    /element type 8; known ones are float32/,
  ],
  [
    'a negative size',
    model([read, relu], [written({ 1: -4, 2: 1, 8: 'words.weight', 9: new Uint8Array(8) })]),
    CheckpointError,
    /has the shape \[-4\]/,
  ],
  ['sparse tensors', model([read, relu], [table], { 15: new Uint8Array() }), UnsupportedError, /sparse/],
  [
    'data in a folder above',
    model([read, relu], [external('../secret')]),
    CheckpointError,
    /'\.\.\/secret': expected a file in the folder/,
  ],
  ...['', '/etc/passwd', 'C:weights', 'https://host/weights', 'a\\..\\weights', 'a/../../secret', 'weights\0'].map(
    (name): [string, Uint8Array, typeof CheckpointError, RegExp] => [
      `data in '${name}'`,
      model([read, relu], [external(name)]),
      CheckpointError,
      /expected a file in the folder/,
    ],
  ),
  [
    'data beyond the end',
    model([read, relu], [external('weights', { offset: '8', length: '32' })]),
    CheckpointError,
    /bytes 8 to 40 are outside of 'weights', which has 16/,
  ],
  [
    'an unknown operator',
    model([read, nodeProto('Fancy', ['x'], 'y', {}, 'node 7')]),
    UnsupportedError,
    /node 'node 7' has the operator 'Fancy'.*operators: \{ 'Fancy'/,
  ],
  [
    'an unknown input',
    model([nodeProto('Gather', ['words.weight', 'past'], 'x'), relu], [table], { 11: [ids, portProto('past', [1])] }),
    UnsupportedError,
    /reads 'past'; known inputs are input_ids/,
  ],
])('%s is refused', async (_, bytes, type, message) => {
  const loading = load(bytes);
  await expect(loading).rejects.toThrow(type);
  await expect(loading).rejects.toThrow(message);
  await expect(loading).rejects.toThrow(/^graph\/model\.onnx: (?!graph\/)/);
});

describe('options', () => {
  it('an output that the graph does not have is refused with those that it has', async () => {
    const loading = load(model([read, relu]), { output: 'logits' });
    await expect(loading).rejects.toThrow(ConfigError);
    await expect(loading).rejects.toThrow(/'output' is 'logits'; the graph has y/);
  });

  it('the modules of a head must be in the graph', async () => {
    const loading = load(model([read, relu]), { task: 'token-classification', newHead: false });
    await expect(loading).rejects.toThrow(/option 'head' names no module; the last modules of the graph are words/);
  });

  it('options of other formats are unknown', async () => {
    await expect(load(model([read, relu]), { formats: [] } as OnnxOptions)).rejects.toThrow(/'formats' is unknown/);
  });
});

it('a number that is reached on very many paths is found at once', { timeout: 5000 }, async () => {
  const slices = Array.from({ length: 9 }, (_, at) =>
    nodeProto('Slice', Array<string>(7).fill(`s${at}`), `s${at + 1}`),
  );
  const graph = model([
    read,
    nodeProto('Shape', ['input_ids'], 's0'),
    ...slices,
    nodeProto('MatMul', ['x', 'x'], 'scores'),
    nodeProto('Mul', ['scores', 's9'], 'scaled'),
    nodeProto('Softmax', ['scaled'], 'shares', { axis: -1 }),
    nodeProto('MatMul', ['shares', 'x'], 'y'),
  ]);
  await expect(load(graph)).resolves.toMatchObject({ task: 'feature-extraction' });
});

it('arrays that double are refused before they are made', async () => {
  const doubled = Array.from({ length: 16 }, (_, at) => nodeProto('Concat', [`s${at}`, `s${at}`], `s${at + 1}`));
  const nodes = [read, ...doubled, nodeProto('Reshape', ['s16', 'x'], 'y')];
  const graph = await load(model(nodes, [table, intsProto('s0', [1, 1])]));
  const { forward } = graph as { forward(scope: unknown, inputs: object): unknown };
  expect(() => forward({}, {})).toThrow(/Concat 's16': a tensor of shape \[131072\] cannot be computed/);
});

it('the memory limit is that of all files of a graph together', async () => {
  const bytes = model([read, relu], [external('data')]);
  const files = new Map([
    ['graph/model.onnx', bytes],
    ['graph/data', new Uint8Array(32)],
  ]);
  const loading = load(bytes, { storage: memoryStorage(files), memoryLimit: bytes.length + 31 });
  await expect(loading).rejects.toThrow(`needs ${bytes.length + 32} bytes of memory`);
});

it('gigantic shapes are refused when the graph is computed', async () => {
  const shape = intsProto('shape', [2 ** 40, 2]);
  const fill = nodeProto('ConstantOfShape', ['shape'], 'z');
  const graph = await load(model([read, fill, nodeProto('Add', ['z', 'x'], 'y')], [table, shape]));
  const { forward } = graph as { forward(scope: unknown, inputs: object): unknown };
  expect(() => forward({}, {})).toThrow(
    /ConstantOfShape 'z': a tensor of shape \[1099511627776, 2\] cannot be computed/,
  );
});
