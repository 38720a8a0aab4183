// Every operator against ONNX Runtime, as a model of one node, with inputs as tensors and, where it allows, on the host.
import { createRng, sizeOf } from '@peftjs/core/method';
import type { Scope } from '@peftjs/core/model';
import * as tf from '@tensorflow/tfjs-core';
import * as ort from 'onnxruntime-node';
import { beforeAll, describe, expect, it } from 'vitest';
import { modelProto } from '../../test/model-proto.js';
import { Message, written, type Fields } from '../format/message.js';
import { readModel } from '../format/model.js';
import { TYPES, type ElementType } from '../format/tensor.js';
import { dtypeOf, hostInts, isHost, tensorOf, type HostArray, type Value } from '../values.js';
import { operators } from './index.js';

beforeAll(async () => {
  tf.env().set('PROD', true); // keeps the banner of the cpu backend out of the test's output
  await tf.setBackend('cpu');
});

/** An input: its type, shape and numbers. Shapes, axes and bounds are `known` while tracing. */
interface Given {
  readonly type: 'float32' | 'int32' | 'int64' | 'bool';
  readonly shape: readonly number[];
  readonly data: readonly number[];
  readonly known?: boolean;
}

type Attributes = Readonly<Record<string, number | string | readonly number[] | { float: number }>>;

const rng = createRng(5);
const floats = (...shape: number[]): Given => ({
  type: 'float32',
  shape,
  data: Array.from({ length: sizeOf(shape) }, () => 2 * rng.normal()),
});
const positive = (...shape: number[]): Given => ({
  ...floats(...shape),
  data: floats(...shape).data.map((x) => Math.abs(x) + 0.1),
});
const integers = (from: number, to: number, ...shape: number[]): Given => ({
  type: 'int64',
  shape,
  data: Array.from({ length: sizeOf(shape) }, () => from + rng.integer(to - from)),
});
const bools = (...shape: number[]): Given => ({ ...integers(0, 2, ...shape), type: 'bool' });
const known = (...data: number[]): Given => ({ type: 'int64', shape: [data.length], data, known: true });
const one = (value: number, type: Given['type'] = 'int64'): Given => ({ type, shape: [], data: [value], known: true });

/** What is left out of a node's optional inputs. */
const none = undefined;
type Case = readonly [
  op: string,
  inputs: readonly (Given | undefined)[],
  attributes?: Attributes,
  options?: { opset?: number; outputs?: number },
];

const cases: readonly Case[] = [
  ...['Add', 'Sub', 'Mul', 'Div', 'Max', 'Min', 'Sum'].map((op): Case => [op, [floats(2, 3), floats(3)]]),
  ...['Add', 'Sub', 'Mul', 'Max', 'Min'].map((op): Case => [op, [integers(-9, 9, 2, 3), integers(-9, 9, 2, 1)]]),
  ['Div', [integers(-20, 20, 4, 6), integers(1, 6, 6)]],
  ['Div', [integers(-20, 20, 4, 6), integers(-6, 0, 6)]],
  ['Mod', [integers(-20, 20, 4, 6), integers(1, 6, 6)]],
  ['Mod', [integers(-20, 20, 4, 6), integers(1, 6, 6)], { fmod: 1 }],
  ...[2, 3, 0.5].map((exponent): Case => ['Pow', [positive(2, 3), one(exponent, 'float32')]]),
  ['Pow', [positive(2, 3), floats(2, 3)]],
  ['Pow', [known(8, 6, 6, 6), { type: 'float32', shape: [4], data: [0.5, 2, 1.5, 3] }]],
  ['Pow', [known(1, 2, 4), one(-1)]],
  ['Clip', [floats(2, 3), one(-1, 'float32'), one(1, 'float32')]],
  ['Clip', [floats(2, 3), none, one(1, 'float32')]],
  ...['Equal', 'Greater', 'GreaterOrEqual', 'Less', 'LessOrEqual'].map((op): Case => [
    op,
    [integers(0, 4, 3, 4), integers(0, 4, 4)],
  ]),
  ...['And', 'Or', 'Xor'].map((op): Case => [op, [bools(3, 4), bools(4)]]),
  ['Not', [bools(3, 4)]],
  ['Where', [bools(3, 1), floats(3, 4), floats(4)]],
  ['Where', [bools(3, 4), integers(0, 9, 4), integers(0, 9, 3, 4)]],
  ...[
    'Abs',
    'Neg',
    'Sign',
    'Floor',
    'Ceil',
    'Round',
    'Exp',
    'Sin',
    'Cos',
    'Tanh',
    'Erf',
    'Sigmoid',
    'Relu',
    'Softplus',
    'Softsign',
    'HardSwish',
    'Identity',
    'IsNaN',
    'IsInf',
  ].map((op): Case => [op, [floats(3, 4)]]),
  ...['Sqrt', 'Log', 'Reciprocal'].map((op): Case => [op, [positive(3, 4)]]),
  ['Round', [{ type: 'float32', shape: [4], data: [0.5, 1.5, 2.5, -0.5] }]],
  ['LeakyRelu', [floats(3, 4)], { alpha: { float: 0.3 } }],
  ['Elu', [floats(3, 4)]],
  ['Elu', [floats(3, 4)], { alpha: { float: 0.3 } }],
  ['HardSigmoid', [floats(3, 4)]],
  ['Gelu', [floats(3, 4)]],
  ['Gelu', [floats(3, 4)], { approximate: 'tanh' }],
  ['Dropout', [floats(3, 4)]],
  ['Cast', [floats(3, 4)], { to: 7 }],
  ['Cast', [integers(-1, 2, 3, 4)], { to: 9 }],
  ['Cast', [bools(3, 4)], { to: 1 }],
  ...[2, 3].map((to): Case => ['Cast', [known(300, -5, 128, 7)], { to }]), // uint8 and int8 wrap around
  ['CastLike', [integers(-1, 2, 3, 4), floats(1)]],

  // reductions and norms
  ...[
    'ReduceMean',
    'ReduceSum',
    'ReduceMax',
    'ReduceMin',
    'ReduceProd',
    'ReduceSumSquare',
    'ReduceL1',
    'ReduceL2',
  ].flatMap((op): Case[] => [
    [op, [floats(2, 3, 4), known(-1)]],
    [op, [floats(2, 3, 4), known(0, 2)], { keepdims: 0 }],
    [op, [floats(2, 3, 4)]],
  ]),
  ['ReduceMean', [floats(2, 3, 4)], { axes: [-1] }, { opset: 13 }],
  ...['ReduceMean', 'ReduceL2'].map((op): Case => [op, [{ type: 'int32', shape: [3], data: [-9, -7, -1] }]]),
  ...['ReduceSum', 'ReduceL1', 'ReduceL2', 'ReduceSumSquare'].map((op): Case => [
    op,
    [floats(2, 3), none],
    { noop_with_empty_axes: 1 },
  ]),
  ['ArgMax', [floats(2, 3, 4)], { axis: 1 }],
  ['ArgMin', [floats(2, 3, 4)], { axis: -1, keepdims: 0 }],
  ['CumSum', [floats(2, 5), one(1)]],
  ['CumSum', [floats(2, 5), one(0)], { reverse: 1, exclusive: 1 }],
  ['Softmax', [floats(2, 3, 4)]],
  ['Softmax', [floats(2, 3, 4)], { axis: 1 }],
  ['Softmax', [floats(2, 3, 4)], { axis: 1 }, { opset: 11 }],
  ['LogSoftmax', [floats(2, 3, 4)], { axis: -1 }],
  ['LpNormalization', [floats(2, 4)]],
  ['LpNormalization', [floats(2, 4)], { p: 1, axis: 0 }],
  ['LayerNormalization', [floats(2, 3, 4), floats(4)]],
  ['LayerNormalization', [floats(2, 3, 4), floats(3, 4), floats(3, 4)], { axis: 1, epsilon: { float: 0.1 } }],
  ['LayerNormalization', [floats(2, 3, 4), floats(1), floats(4)], {}, { outputs: 3 }],
  ['LayerNormalization', [floats(2, 3, 4), floats(4), floats(3, 1)], { axis: 1 }, { outputs: 3 }],

  // shapes
  ['Shape', [floats(2, 3, 4)]],
  ['Shape', [floats(2, 3, 4)], { start: 1, end: -1 }],
  ['Shape', [floats(2, 3, 4)], { start: -2 }],
  ['Size', [floats(2, 3, 4)]],
  ['Reshape', [floats(2, 3, 4), known(0, -1)]],
  ['Reshape', [floats(2, 3, 4), known(4, 6)]],
  ['Flatten', [floats(2, 3, 4)], { axis: 2 }],
  ['Flatten', [floats(2, 3, 4)], { axis: -1 }],
  ['Squeeze', [floats(2, 1, 3, 1), known(1)]],
  ['Squeeze', [floats(2, 1, 3, 1)]],
  ['Squeeze', [floats(2, 1, 3, 1)], { axes: [-1] }, { opset: 11 }],
  ['Unsqueeze', [floats(2, 3), known(0, -1)]],
  ['Unsqueeze', [floats(2, 3)], { axes: [1] }, { opset: 11 }],
  ['Transpose', [floats(2, 3, 4)]],
  ['Transpose', [floats(2, 3, 4)], { perm: [1, 2, 0] }],
  ['Concat', [floats(2, 3), floats(2, 1)], { axis: -1 }],
  ['Concat', [known(1, 2), known(3)], { axis: 0 }],
  ['Split', [floats(2, 5), known(2, 3)], { axis: 1 }, { outputs: 2 }],
  ['Split', [floats(5, 2)], { num_outputs: 2 }, { outputs: 2 }],
  ['Split', [floats(4, 2)], {}, { outputs: 2, opset: 13 }],
  ['Slice', [floats(4, 5), known(1), known(3)]],
  ['Slice', [floats(4, 5), known(-3, 1), known(1000, -1), known(1, 0)]],
  ['Slice', [floats(4, 7), known(6), known(0), known(1), known(-2)]],
  ['Slice', [floats(4, 7), known(-1), known(-1000), known(0), known(-1)]],
  ['Slice', [floats(4, 7), known(-100), known(-1000), known(1), known(-1)]],
  ['Slice', [floats(4, 7), known(0), known(7), known(1), known(3)]],
  ['Slice', [known(3, 5, 7, 9), known(1), known(-1)]],
  ['Slice', [floats(4, 5), known(3), known(2)]],
  ['Pad', [floats(2, 3), known(0, 1, 2, 0), one(7, 'float32')]],
  ['Pad', [floats(2, 3), known(1, 2), none, known(-1)]],
  ['Gather', [floats(5, 3), integers(-5, 5, 2, 2)]],
  ['Gather', [floats(2, 5, 3), integers(0, 5, 4)], { axis: 1 }],
  ['Gather', [known(7, 8, 9), one(-1)]],
  ['Gather', [known(7, 8, 9), known(0, 2)]],
  ['Gather', [floats(2, 3), one(-2)], { axis: 1 }],
  ['Gather', [floats(2, 3), integers(-3, 0)], { axis: 1 }],
  ['GatherElements', [floats(3, 4), integers(-4, 4, 3, 2)], { axis: 1 }],
  ['GatherElements', [floats(3, 4), integers(0, 3, 2, 3)], { axis: 0 }],
  ['GatherND', [floats(3, 4), integers(-3, 3, 5, 2)]],
  ['GatherND', [bools(3, 4), integers(0, 3, 2, 5, 2)]],
  ['GatherND', [floats(2, 3, 4), integers(0, 3, 2, 1)], { batch_dims: 1 }],
  ['Expand', [floats(3, 1), known(2, 1, 4)]],
  ['Expand', [integers(0, 9, 3, 1), known(2, 1, 4)]],
  ['Expand', [one(3), known(2, 2)]],
  ['Tile', [floats(2, 3), known(2, 2)]],
  ['ConstantOfShape', [known(2, 3)]],
  ['Range', [one(1), one(9), one(3)]],
  ['Range', [one(1, 'float32'), one(-2, 'float32'), one(-0.5, 'float32')]],
  ['Trilu', [floats(2, 3, 4)]],
  ['Trilu', [floats(4, 4), one(-1)], { upper: 0 }],
  ['Trilu', [bools(3, 3)], { upper: 0 }],
  ['Trilu', [{ type: 'float32', shape: [2, 2], data: Array<number>(4).fill(-Infinity) }, one(1)]], // a causal mask

  // images
  ['Conv', [floats(2, 3, 8, 6), floats(5, 3, 4, 2), floats(5)], { strides: [4, 2], kernel_shape: [4, 2] }],
  ['Conv', [floats(1, 3, 9, 7), floats(5, 3, 4, 2)], { strides: [4, 2], auto_pad: 'VALID', dilations: [1, 1] }],
  ...['linear', 'cubic'].flatMap((mode): Case[] => [
    ['Resize', [floats(2, 3, 4, 5), none, none, known(2, 3, 7, 11)], { mode }],
    ['Resize', [floats(1, 1, 7, 6), none, none, known(1, 1, 4, 6)], { mode, cubic_coeff_a: { float: -0.5 } }],
    [
      'Resize',
      [floats(1, 1, 5, 4), none, none, known(1, 1, 1, 3)],
      { mode, coordinate_transformation_mode: 'pytorch_half_pixel' },
    ],
  ]),

  // products
  ['MatMul', [floats(2, 3, 4), floats(4, 5)]],
  ['MatMul', [floats(2, 1, 3, 4), floats(3, 4, 5)]],
  ['MatMul', [floats(4), floats(4, 5)]],
  ['MatMul', [floats(2, 3, 4), floats(4)]],
  ['Gemm', [floats(3, 4), floats(4, 5), floats(5)]],
  ['Gemm', [floats(4, 3), floats(5, 4)], { transA: 1, transB: 1, alpha: { float: 0.5 } }],
  ['Gemm', [floats(3, 4), floats(4, 5), floats(3, 1)], { beta: { float: 2 } }],
  ['Einsum', [floats(2, 3), floats(4)], { equation: 'ij,k->ijk' }],
  ['Einsum', [floats(2, 3, 4), floats(2, 5, 4)], { equation: 'bid,bjd->bij' }],
];

/** A model of one node. */
function modelOf([op, inputs, attributes = {}, { opset = 20, outputs = 1 } = {}]: Case): Uint8Array {
  const results = Array.from({ length: outputs }, (_, index) => `y${index}`);
  const node = {
    1: inputs.map((given, index) => (given ? `x${index}` : '')),
    2: results,
    4: op,
    5: Object.entries(attributes).map(([name, value]) => attribute(name, value)),
  };
  const ports = inputs.flatMap((given, index) => (given ? [port(`x${index}`, given)] : []));
  return modelProto({ 1: node, 2: 'one', 11: ports, 12: results.map((name) => port(name)) }, opset);
}

/** Without a type, ONNX Runtime finds it. */
function port(name: string, given?: Given): Fields {
  if (!given) return { 1: name };
  const dims = given.shape.map((dim) => ({ 1: dim }));
  return { 1: name, 2: { 1: { 1: TYPES[given.type].id, 2: { 1: dims } } } };
}

function attribute(name: string, value: Attributes[string]): Uint8Array {
  if (typeof value === 'number') return written({ 1: name, 3: value, 20: 2 });
  if (typeof value === 'string') return written({ 1: name, 4: value, 20: 3 });
  if (!('float' in value)) return written({ 1: name, 8: value, 20: 7 });
  const fixed = [Uint8Array.of((2 << 3) | 5), new Uint8Array(Float32Array.of(value.float).buffer)];
  return written([[1, name], ...fixed, [20, 1]]);
}

async function inRuntime(bytes: Uint8Array, inputs: Case[1]): Promise<ort.Tensor[]> {
  const session = await ort.InferenceSession.create(bytes, { logSeverityLevel: 4 });
  const feeds = inputs.flatMap((given, index) => (given ? [[`x${index}`, tensorFor(given)] as const] : []));
  const results = await session.run(Object.fromEntries(feeds));
  return session.outputNames.map((name) => results[name] as ort.Tensor);
}

function tensorFor({ type, shape, data }: Given): ort.Tensor {
  if (type === 'float32') return new ort.Tensor(type, Float32Array.from(data), shape);
  if (type === 'int32') return new ort.Tensor(type, Int32Array.from(data), shape);
  if (type === 'int64') return new ort.Tensor(type, BigInt64Array.from(data, BigInt), shape);
  return new ort.Tensor(type, Uint8Array.from(data), shape);
}

function hostOf({ type, shape, data }: Given): HostArray {
  const values = type === 'float32' ? [...Float32Array.from(data)] : data;
  return { kind: TYPES[type satisfies ElementType].kind, shape, data: values, varies: false };
}

/** The outputs of our operator. */
function ours(bytes: Uint8Array, inputs: Case[1], onHost: boolean): readonly Value[] {
  const {
    nodes: [node],
    opset,
  } = readModel(new Message(bytes), () => new Uint8Array());
  const given = inputs.map((each) => each && (onHost || each.known ? hostOf(each) : tensorOf(hostOf(each))));
  const { attributes = {}, outputs = [], op = '' } = node ?? {};
  const operator = operators[op] ?? expect.fail(op);
  const made = operator(given, { attributes, opset, outputs: outputs.length, maxTokens: 8, scope: {} as Scope });
  return Array.isArray(made) ? (made as readonly Value[]) : [made as Value];
}

describe('an operator has the outputs of ONNX Runtime', () => {
  it.each(cases.map((each, index) => [index, each[0], each] as const))('%i: %s', async (_, __, each) => {
    const [, inputs] = each;
    const bytes = modelOf(each);
    const expected = await inRuntime(bytes, inputs);
    for (const onHost of [false, true]) {
      const actual = ours(bytes, inputs, onHost);
      for (const [index, result] of expected.entries()) {
        const value = actual[index] ?? expect.fail('none');
        const numbers = isHost(value) ? value.data : [...value.dataSync()];
        expect([...value.shape]).toEqual([...result.dims]);
        const theirs = Array.from(result.data as ArrayLike<number | bigint | boolean>, Number);
        theirs.forEach((number, at) => expect(numbers[at]).toBeCloseTo(number, 4));
        if (!isHost(value)) expect(value.dtype).toBe(dtypeOf(KINDS[result.type] ?? expect.fail(result.type)));
      }
    }
  });
});

const KINDS: Readonly<Record<string, HostArray['kind']>> = {
  float32: 'float',
  int32: 'int',
  int64: 'int',
  uint8: 'int',
  int8: 'int',
  bool: 'bool',
};

it('every operator has a case', () => {
  const tested = new Set(cases.map(([op]) => op));
  expect(Object.keys(operators).filter((op) => !tested.has(op) && !LATER.has(op))).toEqual([]);
});

/** Operators of later opsets than those of the runtime, or of no ONNX at all; tests/models has graphs with them. */
const LATER: ReadonlySet<string> = new Set(['RMSNormalization', 'SimplifiedLayerNormalization']);

it.each<[string, string]>([
  ['IsInf', 'detect_negative'],
  ['ArgMin', 'select_last_index'],
])('refuses an option that it does not know: %s, %s', (op, option) => {
  const other = Number(op === 'ArgMin');
  const bytes = modelOf([op, [floats(2, 3)], { [option]: other }]);
  expect(() => ours(bytes, [floats(2, 3)], false)).toThrow(`${option} is ${other}; only ${1 - other} is known`);
});

it('refuses a minimum that is the size in some texts only', () => {
  const call = { attributes: {}, opset: 20, outputs: 1, maxTokens: 8, scope: {} as Scope };
  expect(() => operators['Min']?.([hostInts([4], true), hostInts([6], false)], call)).toThrow(
    /set maxTokens to at most 6/,
  );
});

it.each<Attributes>([{ keep_aspect_ratio_policy: 'not_larger' }, { axes: [0, 1, 2, 3] }])(
  'refuses a Resize with %o',
  (odd) => {
    const inputs = [floats(1, 1, 4, 4), none, none, known(1, 1, 6, 8)];
    const bytes = modelOf(['Resize', inputs, { mode: 'linear', ...odd }]);
    expect(() => ours(bytes, inputs, false)).toThrow(/a Resize with/);
  },
);

it('refuses a product that reads a diagonal', () => {
  const bytes = modelOf(['Einsum', [floats(2, 3), floats(3, 3)], { equation: 'ij,jj->i' }]);
  expect(() => ours(bytes, [floats(2, 3), floats(3, 3)], false)).toThrow(/an Einsum of 'ij,jj->i'/);
});

it('refuses a convolution whose patches overlap', () => {
  const bytes = modelOf(['Conv', [floats(1, 3, 8, 8), floats(5, 3, 4, 4)], { strides: [2, 2] }]);
  expect(() => ours(bytes, [floats(1, 3, 8, 8), floats(5, 3, 4, 4)], false)).toThrow(
    /convolution of 4 x 4 with strides 2, 2/,
  );
});
