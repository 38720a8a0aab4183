import { ConfigError, UnsupportedError } from '@peftjs/core/method';
import { readsImages, type Task } from '@peftjs/core/model';
import { linearHead, noHead, pooled, type Features, type Head } from '@peftjs/models/architectures';
import type { PoolingMode } from '@peftjs/models';
import * as tf from '@tensorflow/tfjs-core';
import type { Port } from './format/model.js';
import type { GraphNetwork } from './network.js';
import type { Module } from './patterns/modules.js';

/** How an output of the graph is used. */
export interface HeadOptions {
  readonly task: Task;
  /** How token embeddings become the features of a text. */
  readonly pooling: PoolingMode | readonly PoolingMode[];
  /** Whether the output gets a new head. */
  readonly newHead: boolean;
  /** The modules of the graph's own head. */
  readonly head?: readonly string[] | undefined;
}

/** The module of a new head, and its output, as in transformers. */
export const [NEW_HEAD, LOGITS] = ['classifier', 'logits'];

/** The modules that transformers' classes train on top of a network. */
const HEADS: readonly string[] = ['classifier', 'pre_classifier', 'score'];

/**
 * Returns the head for a task on an output of the graph: a new one on features, the graph's own, or none.
 * @throws UnsupportedError when the output has no fixed number of features, or features depend on a module that has the
 * name of the new head.
 * @throws ConfigError when the head's modules are unknown.
 */
export function headOn(output: Port, network: GraphNetwork, options: HeadOptions): Head {
  const features: Features = (scope, inputs) => network.compute(scope, inputs);
  const axes = output.shape?.length;
  const { task, newHead } = options;
  if (task === 'feature-extraction') {
    if (axes !== 2 && !readsImages(network)) return noHead(features);
    const forward = axes === 2 ? features : pooledOutput(features, options.pooling);
    return { trained: [], sites: () => [], forward };
  }
  if (task === 'causal-lm')
    return { trained: [], outputs: widthOf(output, network), sites: () => [], forward: features };
  if (!newHead) return ownHead(features, network.modules, options);
  if (headModules(network.modules, [NEW_HEAD]).length > 0) {
    throw new UnsupportedError(
      `the output '${output.name}' depends on a module named '${NEW_HEAD}', the name of the new head: choose an earlier output as 'output', or set newHead: false`,
      'output',
    );
  }
  if (task === 'token-classification') return linearHead({ path: NEW_HEAD }, widthOf(output, network), features);
  const texts = axes === 2 ? features : pooledOutput(features, options.pooling);
  const modes = axes === 2 ? 1 : [options.pooling].flat().length;
  const head = linearHead({ path: NEW_HEAD }, modes * widthOf(output, network), texts);
  // Features of texts are kept in memory by the text; images are large, and may be changed in every epoch.
  return readsImages(network) ? { ...head, split: undefined } : head;
}

/** Pools tokens of texts, or patches of images, which are all read. */
export function pooledOutput(features: Features, pooling: HeadOptions['pooling']): Features {
  return (scope, inputs) => {
    const x = features(scope, inputs); // [batch, tokens, width]
    const { attentionMask = tf.ones(x.shape.slice(0, 2)) } = inputs;
    return pooled(() => x, { pooling, normalize: false })(scope, { attentionMask });
  };
}

/** The head that the graph has: its last module computes the outputs. */
function ownHead(features: Features, modules: readonly Module[], { head }: HeadOptions): Head {
  const paths = modules.map(({ site }) => site.path);
  const trained = head ?? HEADS.filter((name) => paths.some((path) => isIn(name, path)));
  const odd = trained.find((name) => !paths.some((path) => isIn(name, path)));
  if (odd !== undefined || trained.length === 0) {
    throw new ConfigError(
      `option 'head' names ${odd === undefined ? 'no module' : `'${odd}'`}; the last modules of the graph are ${paths.slice(-4).join(', ')}`,
      'head',
    );
  }
  const sites = headModules(modules, trained).map(({ site }) => ({ ...site, role: 'head' as const }));
  return {
    trained,
    sites: (outputs) =>
      sites.map((site, index) => (index === sites.length - 1 ? { ...site, outFeatures: outputs } : site)),
    forward: features,
  };
}

/** Returns the modules with one of these names, or within a module of that name. */
export function headModules(modules: readonly Module[], names: readonly string[]): Module[] {
  return modules.filter(({ site }) => names.some((name) => isIn(name, site.path)));
}

/** Whether a path is a module, or within it. */
function isIn(name: string, path: string): boolean {
  return path === name || path.startsWith(`${name}.`);
}

/** @throws UnsupportedError when neither the file nor the last module fixes the size of the output's last axis. */
function widthOf({ name, shape }: Port, { width: made }: GraphNetwork): number {
  const width = shape?.at(-1) ?? made;
  if (width !== undefined && width > 0) return width;
  throw new UnsupportedError(
    `the output '${name}' has no fixed number of features: choose another one as 'output'`,
    name,
  );
}
