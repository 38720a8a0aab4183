import { hostTensor } from '@peftjs/core';
import { transposed } from '@peftjs/core/linalg';
import { CheckpointError, type HostTensor, type HostTensors, type Site, type Tensors } from '@peftjs/core/method';
import { checkTokens, type Architecture } from '@peftjs/models/architectures';
import type { ModelFile, Port } from './format/model.js';
import type { Constant } from './format/tensor.js';
import { plan, weightName, type Plan } from './forward.js';
import { Graph } from './graph.js';
import { assertInputs } from './inputs.js';
import { textIn, type OperatorTable } from './operators/operator.js';
import { replaceActivations } from './patterns/activations.js';
import { replaceAttention } from './patterns/attention.js';
import { replaceModules, type Module, type Modules } from './patterns/modules.js';
import { replaceNorms } from './patterns/norms.js';

/** The part of a graph that computes one output. */
export interface GraphNetwork {
  /** Its modules, in the order of computation. */
  readonly modules: readonly Module[];
  /** The tensors that the graph reads without a module. */
  readonly others: HostTensors;
  /** The path of the table that is read by `inputIds`. */
  readonly words: string | undefined;
  /** The most tokens for which the table of positions has rows; Infinity without such a table. */
  readonly maxTokens: number;
  /** The number of token types; undefined where the graph does not read them. */
  readonly tokenTypes: number | undefined;
  /** The sizes of inputs that the graph fixes, and the axes of images; undefined where there are none. */
  readonly axes: Architecture['axes'];
  /** The number of features of the module that makes the output; undefined where that is no module. */
  readonly width: number | undefined;
  /** Computes the output. */
  readonly compute: Plan['compute'];
}

/**
 * Reads the part of a graph that computes an output.
 * @param own the user's operators
 * @param maxTokens returns the most tokens of a text, which are known when the graph is computed
 * @throws CheckpointError and UnsupportedError naming the node.
 */
export function networkOf(file: ModelFile, output: Port, own: OperatorTable, maxTokens: () => number): GraphNetwork {
  const graph = new Graph(file);
  const all = modulesOf(graph);
  replaceAttention(graph);
  const planned = plan(graph, output.name, own, maxTokens);
  assertInputs(graph, new Set(planned.nodes.flatMap(({ node }) => node.inputs)));
  const last = graph.producer(graph.source(output.name));
  const uses = planned.nodes.flatMap(({ node }) => {
    const module = all.get(textIn(node, 'path', ''));
    return module ? [{ module, ids: graph.source(node.inputs[0] ?? '') }] : [];
  });
  const tables = uses.filter(({ module }) => module.site.kind === 'embedding');
  const words = tables.find(({ ids }) => ids === 'input_ids')?.module.site;
  const most = Math.min(...tables.map((table) => rowsForTokens(graph, table)));
  return {
    modules: [...new Set(uses.map(({ module }) => module))],
    others: Object.fromEntries(Array.from(planned.weights, ([name, of]) => [weightName(name), tensorIn(of)])),
    words: words?.path,
    tokenTypes: tables.find(({ ids }) => ids === 'token_type_ids')?.module.site.inFeatures,
    maxTokens: most,
    axes: axesOf(file, planned, words),
    width: last && all.get(textIn(last, 'path', ''))?.site.outFeatures,
    compute(scope, inputs) {
      const { inputIds } = inputs;
      if (inputIds) checkTokens('the graph', inputIds, most);
      const made = planned.compute(scope, inputs);
      assertOutput(made.shape, output, inputs);
      return made;
    },
  };
}

/** @throws CheckpointError unless an output has the stated number of axes, and a row for each one of the batch. */
function assertOutput(made: readonly number[], { name, shape }: Port, { inputIds, pixelValues }: Tensors): void {
  const [batch = made[0]] = (inputIds ?? pixelValues)?.shape ?? [];
  const rank = shape?.length ?? made.length;
  if (made.length === rank && made[0] === batch) return;
  const sizes = Array.from({ length: rank }, (_, axis) => (axis === 0 ? batch : '?')).join(', ');
  throw new CheckpointError(
    `the output '${name}' has the shape [${made.join(', ')}], expected [${sizes}]: the graph is damaged or not supported`,
    name,
  );
}

/** Puts the modules of a graph in place of the nodes that compute them. */
function modulesOf(graph: Graph): Modules {
  replaceNorms(graph);
  replaceActivations(graph);
  return replaceModules(graph);
}

/** Returns all modules of a graph. */
export function modulesIn(file: ModelFile): readonly Module[] {
  return [...modulesOf(new Graph(file)).values()];
}

/**
 * Returns the most tokens for which a table of positions has rows; Infinity for other tables. Where positions are
 * counted from the token IDs, as in RoBERTa, the first ones are not used.
 */
function rowsForTokens(graph: Graph, { module, ids }: { readonly module: Module; readonly ids: string }): number {
  const { path, inFeatures } = module.site;
  if (!/position_embeddings?$|(?:^|\.)(?:wpe|embed_positions)$/.test(path)) return Infinity;
  return inFeatures - (graph.order([ids]).some(({ op }) => op === 'CumSum') ? COUNTED_FROM : 0);
}

/**
 * Returns the sizes that the graph fixes. Sides of images that it does not fix are multiples of a patch's, so that the
 * number of patches follows from them.
 */
function axesOf({ inputs, constants }: ModelFile, { nodes }: Plan, words?: Site): Architecture['axes'] {
  const shapes = new Map(inputs.map(({ name, shape }) => [name, shape]));
  const [, channels, ...sides] = shapes.get('pixel_values') ?? [];
  if (sides.length === 2) {
    const patch = nodes.find(({ node }) => node.op === 'Conv')?.node.inputs[1] ?? '';
    const [rows = 1, columns = 1] = constants.get(patch)?.shape.slice(2) ?? [];
    const [height = `${rows}*height`, width = `${columns}*width`] = sides;
    return { pixelValues: ['batch', channels ?? 3, height, width] };
  }
  const tokens = shapes.get('input_ids')?.[1];
  if (tokens === undefined) return undefined;
  const ofTokens = ['batch', tokens];
  return {
    inputIds: ofTokens,
    attentionMask: ofTokens,
    tokenTypeIds: ofTokens,
    ...(words && { [words.path]: [...ofTokens, words.outFeatures] }),
  };
}

/** The first position of a token in RoBERTa and its like: the one after that of padding, 1. */
const COUNTED_FROM = 2;

/** Returns the weights of modules by `<path>.weight` and `<path>.bias`, matrices as [in, out]. */
export function weightsOf(modules: readonly Module[]): HostTensors {
  const weights: HostTensors = {};
  for (const { site, weight, bias, isTransposed } of modules) {
    weights[`${site.path}.weight`] = isTransposed ? transposed(tensorIn(weight)) : tensorIn(weight);
    if (bias) weights[`${site.path}.bias`] = tensorIn(bias);
  }
  return weights;
}

function tensorIn(constant: Constant): HostTensor {
  return hostTensor(Float32Array.from(constant.numbers()), constant.shape);
}
