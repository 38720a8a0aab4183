import type { Model } from '@peftjs/core';
import {
  CheckpointError,
  ShapeError,
  UnsupportedError,
  type HostTensor,
  type HostTensors,
  type Site,
  type Tensors,
} from '@peftjs/core/method';
import {
  linearSite,
  type Lookup,
  type PastDecoding,
  type Scope,
  type SplitForward,
  type Task,
  type TiedModule,
} from '@peftjs/core/model';
import type { Axis, InputSpec } from '@peftjs/core/runtime';
import type { Tensor } from '@tensorflow/tfjs-core';
import { tokenMean } from './reading.js';

/**
 * A network without its weights: a list of its modules, and pure functions over them. The list is the only source of
 * shapes: it decides which weights a checkpoint must have.
 */
export interface Network {
  /** The `model_type`, e.g. `bert`: part of the model's identity, and named in errors. */
  readonly name: string;
  /** The longest sequence it accepts, in tokens. */
  readonly maxTokens: number;
  /**
   * The number of token types in `tokenTypeIds` (first text, second text). Absent when the network does not read them.
   */
  readonly tokenTypes?: number;
  /** Settings that affect the output but no shape, e.g. the number of heads: part of the model's identity. */
  readonly settings?: Readonly<Record<string, number>>;
  /** The modules on the path to the head's features, in forward order: these can carry adapters. */
  readonly sites: readonly Site[];
  /** The modules that only `encode` uses. They never carry adapters, because a classifier would not use them. */
  readonly encodeOnly: readonly Site[];
  /** The names of the modules that methods adapt by default. */
  readonly defaultTargetModules: readonly string[];
  /** The embedding tables that are read by token ID. */
  readonly lookups: readonly Lookup[];
  /** The network's dropout rates in config.json, by place: see `Model.dropouts`. Default: none. */
  readonly dropouts?: Readonly<Record<string, number>>;
  /** Modules whose weight is one of the network's embedding tables. */
  readonly tied?: readonly TiedModule[];
  /** The axes of its inputs whose size differs from batch to batch: see `Model.axes`. Default: of texts. */
  readonly axes?: Model['axes'];
  /** Returns the sentence embeddings that the network was published for, [batch, width]. */
  encode(scope: Scope, inputs: Tensors): Tensor;
}

/** A network with its head for a task. */
export interface Architecture extends Network {
  /** The task's head. */
  readonly head: Head;
  /**
   * The dense layer on the first token, which checkpoints of masked language models lack. If it is one of `sites`, the
   * classifier reads it: a checkpoint without it gets a new one, trained with the head. Otherwise it is only copied
   * when the model is saved.
   */
  readonly pooler?: Site;
  /** How it generates text. Absent unless the task is next-token prediction. */
  readonly decoding?: Decoding;
}

/** How a language model generates text token by token, with the keys and values of each layer cached between passes. */
export interface Decoding {
  /** The size of the vocabulary: every token ID is below it. */
  readonly words: number;
  /** The longest text it accepts, in tokens. */
  readonly maxTokens: number;
  /** When the longest text reaches this many tokens, the cache is rebuilt from the full texts. Absent: never. */
  readonly rebuildCacheAt?: number;
  /** Returns the specs of the cached tensors, by name, for a batch of texts of at most `capacity` tokens. */
  cacheSpecs(batch: Axis, capacity: number): Readonly<Record<string, InputSpec>>;
  /**
   * Reads prompts: `inputIds` int32 and `attentionMask` float32, [batch, tokens], padded at the end. Returns the
   * `logits` [batch, words] of the token after each prompt, and the cached tensors.
   */
  readPrompt(scope: Scope, inputs: Tensors, capacity: number): Tensors;
  /**
   * Reads one more token of each text: `inputIds` and `positions`, int32 [batch, 1], and the cached tensors. Returns
   * the same.
   */
  readToken(scope: Scope, inputs: Tensors, capacity: number): Tensors;
  /** The same for exported graphs. Without it, they only compute the logits of whole texts. */
  readonly withPast?: PastDecoding;
}

/** Returns an input of the batch by name. @throws ShapeError when the batch does not have it. */
export function batchInput(inputs: Tensors, name: string): Tensor {
  const input = inputs[name];
  if (!input)
    throw new ShapeError(`the model reads '${name}', got ${Object.keys(inputs).join(', ') || 'nothing'}`, name);
  return input;
}

/** A weight as a checkpoint declares it. */
export interface DeclaredWeight {
  /** `float32`, or the file's own name for any other dtype. */
  readonly dtype: string;
  /** The sizes of the axes, outermost first. */
  readonly shape: readonly number[];
}

/** Returns the shape of every weight of an architecture, by name, without its head. */
export function weightShapes({
  sites,
  encodeOnly,
}: Pick<Network, 'sites' | 'encodeOnly'>): Record<string, readonly number[]> {
  const shapes: Record<string, readonly number[]> = {};
  for (const { path, kind, inFeatures, outFeatures, hasBias } of [...sites, ...encodeOnly]) {
    shapes[`${path}.weight`] = kind === 'layerNorm' ? [outFeatures] : [inFeatures, outFeatures];
    if (hasBias) shapes[`${path}.bias`] = [outFeatures];
  }
  return shapes;
}

/**
 * Checks the weights that a checkpoint declares against those the architecture needs, before any weight is read.
 * @param file The name of the checkpoint file, for errors.
 * @throws CheckpointError naming the first weight that is missing or has the wrong dtype or shape.
 */
export function checkShapes(
  architecture: Network,
  specs: Readonly<Record<string, DeclaredWeight>>,
  file: string,
): void {
  for (const [name, shape] of Object.entries(weightShapes(architecture))) {
    const spec = specs[name];
    if (!spec) throw new CheckpointError(`${file}: weight '${name}' of ${architecture.name} is missing`, name);
    if (spec.dtype !== 'float32' || spec.shape.join() !== shape.join()) {
      throw new CheckpointError(
        `${file}: weight '${name}' must be float32 [${shape.join(', ')}], got ${spec.dtype} [${spec.shape.join(', ')}]`,
        name,
      );
    }
  }
}

/** Checks that all weights are finite. @throws CheckpointError naming the first weight with a NaN or infinite value. */
export function checkFinite(weights: HostTensors, file: string): void {
  for (const [name, tensor] of Object.entries(weights)) {
    const position = firstNotFinite(tensor.data);
    if (position >= 0) throw notFinite(file, name, position, tensor.data[position]);
  }
}

/** The error for a weight with a NaN or infinite value. */
export function notFinite(file: string, name: string, position: number, value: number | undefined): CheckpointError {
  return new CheckpointError(`${file}: weight '${name}' holds ${value} at position ${position}`, name);
}

/** Returns the position of the first NaN or infinite value, or -1 if there is none. */
export function firstNotFinite(data: HostTensor['data']): number {
  for (let position = 0; position < data.length; position++) {
    if (!Number.isFinite(data[position])) return position;
  }
  return -1;
}

/** The task-specific part on top of a network. */
export interface Head {
  /** The modules that every method trains, named as in PEFT's `modules_to_save`. Empty for a frozen head. */
  readonly trained: readonly string[];
  /** The number of outputs where it is fixed: the size of the vocabulary. */
  readonly outputs?: number;
  /** Returns its modules for a number of outputs, in forward order. The last one computes the outputs. */
  sites(outputs: number): readonly Site[];
  /** The head's dropout rates, by place. Default: none. */
  readonly dropouts?: Readonly<Record<string, number>>;
  /**
   * Returns logits [batch, outputs], or [batch, tokens, outputs] for a token task; for 'feature-extraction' embeddings
   * [batch, width].
   */
  readonly forward: Features;
  /** `forward` in two parts, the first of them without a trained module. Absent where it is not split. */
  readonly split?: SplitForward | undefined;
  /** Returns token embeddings [batch, tokens, width] for 'feature-extraction'. Absent when the pooling is fixed. */
  readonly tokens?: Features;
}

/** Returns the architecture for a checkpoint without a pooler: a new pooler becomes part of the head. */
export function withNewPooler(architecture: Architecture, pooler: Site): Architecture {
  const { head, sites } = architecture;
  return {
    ...architecture,
    sites: sites.filter(({ path }) => path !== pooler.path),
    head: {
      ...head,
      split: undefined, // the features now depend on a trained module
      trained: [pooler.path.replace(/\.\w+$/, ''), ...head.trained],
      sites: (outputs) => [{ ...pooler, role: 'head' }, ...head.sites(outputs)],
    },
  };
}

/** Computes the features that a head reads: [batch, width], or [batch, tokens, width] for a token task. */
export type Features = (scope: Scope, inputs: Tensors) => Tensor;

/** The linear module of a head, which methods never adapt. */
interface HeadModule {
  readonly path: string;
  readonly hasBias?: boolean;
  /** The rate of the dropout before it, at the place 'dropout'. Default: none. */
  readonly dropout?: number | undefined;
}

/** A head of one linear module on features of size `width`. */
export function linearHead({ path, hasBias = true, dropout }: HeadModule, width: number, features: Features): Head {
  return {
    trained: [path],
    sites: (outputs) => [{ ...linearSite(path, width, outputs, { role: 'head' }), hasBias }],
    ...(dropout !== undefined && { dropouts: { dropout } }),
    // [.., width] -> [.., outputs]
    ...onFeatures(features, (scope, x) => scope.linear(path, dropout === undefined ? x : scope.dropout('dropout', x))),
  };
}

/** Returns the forward pass of a head that reads features, which none of its trained modules computes. */
export function onFeatures(features: Features, outputs: SplitForward['outputs']): Pick<Head, 'forward' | 'split'> {
  const forward: Features = (scope, inputs) => outputs(scope, features(scope, inputs));
  return { forward, split: { forward, features, outputs } };
}

/** The parts of a head with two linear modules. */
export interface DenseHead {
  /** The names of the trained modules, e.g. of the parent of both. */
  readonly trained: readonly string[];
  /** The path of the first module, width -> width. */
  readonly dense: string;
  /** Applied between the two modules. */
  readonly activation: (x: Tensor) => Tensor;
  /** The path of the second module, width -> outputs. */
  readonly out: string;
  /** The dropout before either module. Default: none. */
  readonly dropout?: { readonly dense?: Dropout; readonly out: Dropout };
}

/** A place with dropout, and its rate. */
export type Dropout = readonly [place: string, rate: number];

/** A head of two linear modules with an activation in between, on features [batch, width]. */
export function denseHead(head: DenseHead, width: number, features: Features): Head {
  const { trained, dense, activation, out, dropout } = head;
  const dropped = (scope: Scope, x: Tensor, at?: Dropout): Tensor => (at ? scope.dropout(at[0], x) : x);
  return {
    trained,
    sites: (outputs) => [
      linearSite(dense, width, width, { role: 'head' }),
      linearSite(out, width, outputs, { role: 'head' }),
    ],
    ...(dropout && { dropouts: Object.fromEntries(Object.values(dropout)) }),
    ...onFeatures(features, (scope, x) => {
      const hidden = activation(scope.linear(dense, dropped(scope, x, dropout?.dense)));
      return scope.linear(out, dropped(scope, hidden, dropout?.out));
    }),
  };
}

/**
 * No head: token embeddings [batch, tokens, width] are pooled to their mean, unless the model specifies another
 * pooling.
 */
export function noHead(tokens: Features): Head {
  return {
    trained: [],
    sites: () => [],
    forward: (scope, inputs) => tokenMean(tokens(scope, inputs), batchInput(inputs, 'attentionMask')),
    tokens,
  };
}

/** The parts of an encoder's heads. */
interface EncoderHeads {
  readonly ofTexts: Head;
  /** The features of every token, [batch, tokens, width]. */
  readonly every: Features;
  readonly width: number;
  /** The rate of the dropout before the token classifier. Default: none. */
  readonly dropout?: number | undefined;
}

/**
 * Returns the head of transformers' encoders for a task: `ofTexts`, a linear module on each token, or none.
 * @throws UnsupportedError when the network has none.
 */
export function encoderHead(network: string, { ofTexts, every, width, dropout }: EncoderHeads, task: Task): Head {
  const heads = {
    'sequence-classification': ofTexts,
    'token-classification': linearHead({ path: 'classifier', dropout }, width, every),
    'feature-extraction': noHead(every),
  };
  return headFor(network, heads, task);
}

/** The outputs of a frozen head. */
interface Words {
  /** Their number. */
  readonly words: number;
  /** Applied to the logits. */
  readonly finish: (logits: Tensor) => Tensor;
}

/** A frozen head: a module of the network, or one whose weight is the word embedding table. */
export function frozenHead(path: string, { words, finish }: Words, features: Features): Head {
  return {
    trained: [],
    outputs: words,
    sites: () => [],
    ...onFeatures(features, (scope, x) => finish(scope.linear(path, x))), // [.., width] -> [.., words]
  };
}

/** Returns the head for a task. @throws UnsupportedError when the network has none. */
export function headFor<T>(network: string, heads: Readonly<Partial<Record<Task, T>>>, task: Task): T {
  const head = heads[task];
  if (head) return head;
  const known = Object.keys(heads).join(', ');
  throw new UnsupportedError(`${network} has no head for the task '${task}'; it has ${known}`, 'task');
}
