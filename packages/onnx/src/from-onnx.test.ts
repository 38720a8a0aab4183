import { memoryStorage, PeftError } from '@peftjs/core';
import { floats, type HostTensor } from '@peftjs/core/method';
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, expect, it } from 'vitest';
import { modelProto } from '../test/model-proto.js';
import { written } from './format/message.js';
import { fromOnnx, type OnnxModel, type OnnxOptions } from './index.js';
import { floatsProto, intsProto, nodeProto, portProto } from './write/protos.js';

beforeAll(async () => {
  tf.env().set('PROD', true); // keeps the banner of the cpu backend out of the test's output
  await tf.setBackend('cpu');
});

const ids = portProto('input_ids', ['batch', 'tokens'], 'int64');
const words = floatsProto('words.weight', [4, 2], new Float32Array(8));
const read = nodeProto('Gather', ['words.weight', 'input_ids'], 'x');

/** A model of these nodes and tensors, whose output is y. */
function loaded(
  nodes: readonly Uint8Array[],
  tensors: readonly Uint8Array[],
  options?: OnnxOptions,
): Promise<OnnxModel> {
  const graph = { 1: [read, ...nodes], 5: [words, ...tensors], 11: ids, 12: portProto('y', ['batch', 'tokens', 2]) };
  const files = new Map([['model.onnx', modelProto(graph, 17)]]);
  return fromOnnx('model.onnx', { storage: memoryStorage(files), task: 'feature-extraction', ...options });
}

it('a slice that cuts some texts only is refused', async () => {
  const tensors = [intsProto('from', [0]), intsProto('to', [6]), intsProto('axis', [1])];
  const { forward } = await loaded([nodeProto('Slice', ['x', 'from', 'to', 'axis'], 'y')], tensors, { maxTokens: 8 });
  const scope = { embedding: () => tf.zeros([1, 4, 2]) } as unknown as Parameters<typeof forward>[0];
  expect(() => forward(scope, { inputIds: tf.zeros([1, 4], 'int32') })).toThrow(/set maxTokens to at most 6/);
});

const filled = (value: number): Uint8Array => {
  const tensor = { 1: 1, 2: 1, 4: new Uint8Array(Float32Array.of(value).buffer) };
  return written({ 1: 'by', 2: 'z', 4: 'ConstantOfShape', 5: { 1: 'value', 5: tensor, 20: 4 } });
};
it.each<[string, (value: number) => Promise<OnnxModel>]>([
  ['a scale', (value) => loaded([nodeProto('Mul', ['x', 'by'], 'y')], [floatsProto('by', [], Float32Array.of(value))])],
  ['an index', (value) => loaded([nodeProto('Gather', ['x', 'by'], 'y', { axis: 2 })], [intsProto('by', [value])])],
  ['a filler', (value) => loaded([filled(value), nodeProto('Mul', ['x', 'z'], 'y')], [intsProto('by', [1])])],
])('graphs that differ in %s have different fingerprints', async (_, make) => {
  const [one, other] = await Promise.all([make(0), make(1)]);
  expect(one.fingerprint).not.toBe(other.fingerprint);
});

it('a product that is read again behind an Identity keeps its bias apart', async () => {
  const nodes = [
    nodeProto('MatMul', ['x', 'dense.weight'], 'p'),
    nodeProto('Identity', ['p'], 'i'),
    nodeProto('Add', ['i', 'dense.bias'], 'a'),
    nodeProto('Mul', ['a', 'i'], 'y'),
  ];
  const tensors = [
    floatsProto('dense.weight', [2, 2], new Float32Array(4)),
    floatsProto('dense.bias', [2], new Float32Array(2)),
  ];
  const { sites } = await loaded(nodes, tensors);
  expect(sites.find(({ path }) => path === 'dense')).toMatchObject({ hasBias: false });
});

it('a table that reads an input as 32 bits reads the input itself', async () => {
  const nodes = [
    nodeProto('Cast', ['input_ids'], 'narrow', { to: 6 }),
    nodeProto('Gather', ['types.weight', 'narrow'], 'types'),
    nodeProto('Add', ['x', 'types'], 'y'),
  ];
  const { sites } = await loaded(nodes, [floatsProto('types.weight', [4, 2], new Float32Array(8))]);
  expect(sites.find(({ path }) => path === 'types')).not.toHaveProperty('readsShared');
});

it('zeros that an exporter writes for a norm without bias are none', async () => {
  const zeros = { 1: 2, 2: 1, 9: new Uint8Array(8) };
  const filler = written({ 2: 'filler', 4: 'Constant', 5: { 1: 'value', 5: zeros, 20: 4 } });
  const nodes = [filler, nodeProto('LayerNormalization', ['x', 'norm.weight', 'filler'], 'y')];
  const { sites } = await loaded(nodes, [floatsProto('norm.weight', [2], Float32Array.of(1, 1))]);
  expect(sites.find(({ path }) => path === 'norm')).toMatchObject({ hasBias: false });
});

it.each([
  ['a product and one of its transpose', nodeProto('Gemm', ['x', 'fc.weight'], 'h'), 'linear', 1],
  ['a lookup and a product', nodeProto('Gather', ['fc.weight', 'input_ids'], 'h'), 'embedding', 0],
])('the matrix of %s has two modules', async (_, first, kind, transB) => {
  const nodes = [first, nodeProto('Gemm', ['h', 'fc.weight'], 'y', { transB })];
  const { sites } = await loaded(nodes, [floatsProto('fc.weight', [2, 2], new Float32Array(4))]);
  expect(sites.flatMap((site) => (site.path === 'words' ? [] : [site.kind]))).toEqual([kind, 'linear']);
});

it('a Buffer, as Node reads files, is read like other bytes, and not changed', async () => {
  const graph = {
    1: [read, nodeProto('MatMul', ['x', 'dense.weight'], 'y')],
    5: [words, floatsProto('dense.weight', [2, 2], Float32Array.of(1, 2, 3, 4))],
    11: ids,
    12: portProto('y', ['batch', 'tokens', 2]),
  };
  const bytes = Buffer.from(modelProto(graph, 17));
  const [before, storage] = [Buffer.from(bytes), memoryStorage(new Map([['model.onnx', bytes]]))];
  const { weights } = await fromOnnx('model.onnx', { storage, task: 'feature-extraction' });
  expect([...floats(weights['dense.weight'] as HostTensor)]).toEqual([1, 2, 3, 4]);
  expect(bytes.equals(before)).toBe(true);
});

it.each(['wpe', 'h.wpe', 'decoder.embed_positions', 'position_embeddings'])(
  'the table %s limits texts',
  async (path) => {
    const nodes = [nodeProto('Gather', [`${path}.weight`, 'input_ids'], 'p'), nodeProto('Add', ['x', 'p'], 'y')];
    const tensors = [floatsProto(`${path}.weight`, [6, 2], new Float32Array(12))];
    expect((await loaded(nodes, tensors, { maxTokens: 64 })).maxTokens).toBe(6);
  },
);

it.each<[string, OnnxOptions, RegExp]>([
  ['a pooling', { pooling: 'Mean' as never, task: 'sequence-classification' }, /'pooling'/],
  ['an operator', { operators: { Foo: 'x' as never } }, /operators.*a function/],
])('%s that is none is refused', async (_, options, message) => {
  await expect(loaded([nodeProto('Identity', ['x'], 'y')], [], options)).rejects.toThrow(message);
});

it('a tensor in few bits is refused with what to do', async () => {
  const tensor = written({ 1: [2, 2], 2: 22, 8: 'few', 9: new Uint8Array(2) });
  await expect(loaded([nodeProto('MatMul', ['x', 'few'], 'y')], [tensor])).rejects.toThrow(
    /read the graph in fp32 or fp16/,
  );
});

/** A node of two outputs. */
const twice = written({ 1: 'x', 2: ['z', 'y'], 3: 'twice', 4: 'Relu' });
/** The weights of an attention whose scores lack a factor. */
const halfAttention = [nodeProto('MatMul', ['x'], 's'), nodeProto('Softmax', ['s'], 'p', { axis: -1 })];
it.each<[string, readonly Uint8Array[], readonly number[], RegExp]>([
  [
    'scores of one factor',
    [...halfAttention, nodeProto('MatMul', ['p', 'x'], 'y')],
    [],
    /^MatMul 's': input 1 is left/,
  ],
  [
    'factors that do not fit',
    [nodeProto('MatMul', ['x', 'x'], 'y')],
    [],
    /^MatMul 'y': .*inner shapes.*; the graph is damaged or not supported$/,
  ],
  [
    'rows of another number',
    [nodeProto('Reshape', ['x', 'to'], 'y')],
    [2, 2, 2],
    /^the output 'y' has the shape \[2, 2, 2\], expected \[1, \?, \?\]: the graph is damaged or not supported$/,
  ],
  ['fewer axes', [nodeProto('Reshape', ['x', 'to'], 'y')], [1, 8], /\[1, 8\], expected \[1, \?, \?\]/],
  [
    'an output that its node does not make',
    [twice],
    [],
    /^nothing computes 'y': the graph is damaged or not supported$/,
  ],
])('a damaged graph is refused when it is computed: %s', async (_, nodes, to, message) => {
  const { forward } = await loaded(nodes, [intsProto('to', to)]);
  const scope = { embedding: () => tf.ones([1, 4, 2]) } as unknown as Parameters<typeof forward>[0];
  const compute = () => forward(scope, { inputIds: tf.zeros([1, 4], 'int32') });
  expect(compute).toThrow(PeftError);
  expect(compute).toThrow(message);
});
