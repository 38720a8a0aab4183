import type { Model } from '@peftjs/core';
import { UnsupportedError, type HostTensor } from '@peftjs/core/method';
import { readsImages } from '@peftjs/core/model';
import type { GraphSource } from '../checkpoint.js';
import type { Part } from '../format/message.js';
import type { ModelFile } from '../format/model.js';
import { Graph } from '../graph.js';
import { LOGITS, NEW_HEAD as HEAD } from '../heads.js';
import { floatsProto, INITIALIZER, INPUT, intsProto, NODE, nodeProto, OUTPUT, portProto } from './protos.js';

/** What is added to a graph. */
export interface Added {
  /** The fields of a GraphProto. */
  readonly fields: readonly Part[];
  /** The values of the graph that are needed; what makes others is left out. Default: all. */
  readonly kept?: ReadonlySet<string>;
  /** New names of values of the graph. */
  readonly renamed?: ReadonlyMap<string, string>;
}

/**
 * Returns a new head on an output of the graph: pooling, then a linear module. Of the graph, what the output depends on
 * is kept.
 * @throws UnsupportedError for a pooling that has no nodes.
 */
export function headNodes({ output, pooling, task }: GraphSource, model: Model, file: ModelFile): Added {
  const [weight, bias] = ['weight', 'bias'].map((part) => model.weights[`${HEAD}.${part}`]) as [HostTensor, HostTensor];
  const needed = new Graph(file).order([output]).flatMap(({ inputs, outputs }) => [...inputs, ...outputs]);
  const kept = new Set([output, ...needed.filter((name) => name !== '')]);
  const free = (name: string): string => (kept.has(name) ? free(`${name}'`) : name);
  const renamed = new Map([[LOGITS, free(LOGITS)]]);
  const port = file.outputs.find(({ name }) => name === output);
  const isFloat32 = port?.type === 'float32';
  const source = renamed.get(output) ?? output;
  const x = isFloat32 ? source : free('/pooling/float32');
  const isPooled = task === 'sequence-classification' && port?.shape?.length !== 2;
  const pooled = isPooled ? (POOLED[String(pooling)] ?? refused(pooling))(x, readsImages(model)) : [];
  const [matrix, vector, product] = [
    free(`${HEAD}.weight (in, out)`),
    free(`${HEAD}.bias`),
    free(`/${HEAD}/MatMul_output`),
  ];
  const shape = [...(task === 'token-classification' ? ['batch', 'tokens'] : ['batch']), bias.data.length];
  const isDeclared = ([field]: Part): boolean => field === INPUT && file.inputs.some(({ name }) => name === MASK);
  return {
    fields: [
      ...(isFloat32 ? [] : [node('Cast', [source], x, { to: 1 })]),
      ...pooled.filter((field) => !isDeclared(field)),
      node('MatMul', [isPooled ? FEATURES : x, matrix], product, {}, `/${HEAD}/MatMul`),
      node('Add', [product, vector], LOGITS, {}, `/${HEAD}/Add`),
      [INITIALIZER, floatsProto(matrix, weight.shape, weight.data as Float32Array)],
      [INITIALIZER, floatsProto(vector, bias.shape, bias.data as Float32Array)],
      [OUTPUT, portProto(LOGITS, shape)],
    ],
    kept,
    renamed,
  };
}

function refused(pooling: unknown): never {
  throw new UnsupportedError(
    `a head on the pooling '${String(pooling)}' cannot be written; use 'mean' or 'cls'`,
    'pooling',
  );
}

function node(...parts: Parameters<typeof nodeProto>): Part {
  return [NODE, nodeProto(...parts)];
}

function ints(name: string, ...numbers: number[]): Part {
  return [INITIALIZER, intsProto(name, numbers)];
}

function float(name: string, number: number): Part {
  return [INITIALIZER, floatsProto(name, [], Float32Array.of(number))];
}

const [MASK, FEATURES] = ['attention_mask', '/pooling/features'];

/** Nodes that are the same in every opset: x [batch, tokens, width] -> [batch, width]. */
const POOLED: Readonly<Record<string, (x: string, ofImages: boolean) => readonly Part[]>> = {
  cls: (x) => [
    node('Gather', [x, '/pooling/first'], '/pooling/Gather_output', { axis: 1 }),
    ints('/pooling/first', 0),
    ...flat('/pooling/Gather_output'),
  ],
  // sum m x / max(sum m, 1), where m is 0 or 1, so that sum m = sum m m; of images, all patches are read
  mean: (x, ofImages) => [
    ...(ofImages ? ones(x) : maskOfTokens),
    node('Reshape', ['/pooling/mask', '/pooling/row'], '/pooling/mask row'),
    node('Reshape', ['/pooling/mask', '/pooling/column'], '/pooling/mask column'),
    node('MatMul', ['/pooling/mask row', x], '/pooling/sum'),
    node('MatMul', ['/pooling/mask row', '/pooling/mask column'], '/pooling/tokens'),
    node('Max', ['/pooling/tokens', '/pooling/one'], '/pooling/count'),
    node('Div', ['/pooling/sum', '/pooling/count'], '/pooling/mean'),
    ints('/pooling/row', 0, 1, -1),
    ints('/pooling/column', 0, -1, 1),
    float('/pooling/one', 1),
    ...flat('/pooling/mean'),
  ],
};

/** The mask of a text, [batch, tokens], which a graph need not read otherwise. */
const maskOfTokens: Part[] = [
  [INPUT, portProto(MASK, ['batch', 'tokens'], 'int64')],
  node('Cast', [MASK], '/pooling/mask', { to: 1 }),
];

/** [batch, tokens, width] -> ones [batch, tokens, 1] */
function ones(x: string): Part[] {
  return [
    node('Gather', [x, '/pooling/first'], '/pooling/feature', { axis: 2 }),
    node('Mul', ['/pooling/feature', '/pooling/zero'], '/pooling/zeros'),
    node('Add', ['/pooling/zeros', '/pooling/one'], '/pooling/mask'),
    ints('/pooling/first', 0),
    float('/pooling/zero', 0),
  ];
}

/** [batch, 1, width] -> [batch, width] */
function flat(from: string): Part[] {
  return [node('Reshape', [from, '/pooling/flat'], FEATURES), ints('/pooling/flat', 0, -1)];
}
