import type { Model } from '@peftjs/core';
import { UnsupportedError, type HostTensors } from '@peftjs/core/method';
import { readsImages } from '@peftjs/core/model';
import type { GraphSource } from '../checkpoint.js';
import { LOGITS, NEW_HEAD as HEAD } from '../heads.js';
import { floatsProto, intsProto, nodeProto, portProto } from './protos.js';

/** What is added to a graph: the fields of a GraphProto. */
export interface Added {
  readonly nodes: readonly Uint8Array[];
  readonly initializers: readonly Uint8Array[];
  readonly outputs: readonly Uint8Array[];
}

/**
 * Returns the nodes of a new head on an output of the graph: pooling, then a linear module.
 * @throws UnsupportedError for a pooling that has no nodes.
 */
export function headNodes({ output, axes, pooling, task }: GraphSource, model: Model): Added {
  const { weights } = model;
  const [weight, bias] = [weights[`${HEAD}.weight`], weights[`${HEAD}.bias`]] as [
    HostTensors[string],
    HostTensors[string],
  ];
  const isPooled = task === 'sequence-classification' && axes !== 2;
  const pooled = isPooled ? POOLED[String(pooling)] : { nodes: [], initializers: [], features: output };
  const { nodes, initializers, features } =
    typeof pooled === 'function' ? pooled(output, readsImages(model)) : (pooled ?? refused(pooling));
  const shape = [...(task === 'token-classification' ? ['batch', 'tokens'] : ['batch']), bias.data.length];
  return {
    nodes: [
      ...nodes,
      nodeProto('MatMul', [features, `${HEAD}.weight (in, out)`], `/${HEAD}/MatMul_output`, {}, `/${HEAD}/MatMul`),
      nodeProto('Add', [`/${HEAD}/MatMul_output`, `${HEAD}.bias`], LOGITS, {}, `/${HEAD}/Add`),
    ],
    initializers: [
      ...initializers,
      floatsProto(`${HEAD}.weight (in, out)`, weight.shape, weight.data as Float32Array),
      floatsProto(`${HEAD}.bias`, bias.shape, bias.data as Float32Array),
    ],
    outputs: [portProto(LOGITS, shape)],
  };
}

function refused(pooling: unknown): never {
  throw new UnsupportedError(
    `a head on the pooling '${String(pooling)}' cannot be written; use 'mean' or 'cls'`,
    'pooling',
  );
}

interface PooledNodes extends Pick<Added, 'nodes' | 'initializers'> {
  /** The name of the features, [batch, width]. */
  readonly features: string;
}

/** Nodes that are the same in every opset: x [batch, tokens, width] -> [batch, width]. */
const POOLED: Readonly<Record<string, (x: string, ofImages: boolean) => PooledNodes>> = {
  cls: (x) => ({
    nodes: [
      nodeProto('Gather', [x, '/pooling/first'], '/pooling/Gather_output', { axis: 1 }),
      flat('/pooling/Gather_output'),
    ],
    initializers: [intsProto('/pooling/first', [0]), intsProto('/pooling/flat', [0, -1])],
    features: '/pooling/features',
  }),
  // sum m x / max(sum m, 1), where m is 0 or 1, so that sum m = sum m m; of images, all patches are read
  mean: (x, ofImages) => ({
    nodes: [
      ...(ofImages ? ones(x) : [nodeProto('Cast', ['attention_mask'], '/pooling/mask', { to: 1 })]),
      nodeProto('Reshape', ['/pooling/mask', '/pooling/row'], '/pooling/mask row'),
      nodeProto('Reshape', ['/pooling/mask', '/pooling/column'], '/pooling/mask column'),
      nodeProto('MatMul', ['/pooling/mask row', x], '/pooling/sum'),
      nodeProto('MatMul', ['/pooling/mask row', '/pooling/mask column'], '/pooling/tokens'),
      nodeProto('Max', ['/pooling/tokens', '/pooling/one'], '/pooling/count'),
      nodeProto('Div', ['/pooling/sum', '/pooling/count'], '/pooling/mean'),
      flat('/pooling/mean'),
    ],
    initializers: [
      intsProto('/pooling/row', [0, 1, -1]),
      intsProto('/pooling/column', [0, -1, 1]),
      intsProto('/pooling/flat', [0, -1]),
      floatsProto('/pooling/one', [], Float32Array.of(1)),
      ...(ofImages ? [intsProto('/pooling/first', [0]), floatsProto('/pooling/zero', [], Float32Array.of(0))] : []),
    ],
    features: '/pooling/features',
  }),
};

/** [batch, tokens, width] -> ones [batch, tokens, 1] */
function ones(x: string): Uint8Array[] {
  return [
    nodeProto('Gather', [x, '/pooling/first'], '/pooling/feature', { axis: 2 }),
    nodeProto('Mul', ['/pooling/feature', '/pooling/zero'], '/pooling/zeros'),
    nodeProto('Add', ['/pooling/zeros', '/pooling/one'], '/pooling/mask'),
  ];
}

/** [batch, 1, width] -> [batch, width] */
function flat(from: string): Uint8Array {
  return nodeProto('Reshape', [from, '/pooling/flat'], '/pooling/features');
}
