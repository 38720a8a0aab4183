import {
  CheckpointError,
  linearSite,
  ShapeError,
  UnsupportedError,
  type HostTensor,
  type HostTensors,
  type Lookup,
  type PastDecoding,
  type Scope,
  type Site,
  type Task,
  type Tensors,
  type TiedModule,
} from '@peftjs/core/method';
import type { Axis, InputSpec } from '@peftjs/core/runtime';
import type { Tensor } from '@tensorflow/tfjs';
import { tokenMean } from './reading.js';

/**
 * A network without its weights: the list of its modules and pure functions over them. The list is the one source of shapes:
 * what a checkpoint must hold follows from it.
 */
export interface Network {
  readonly name: string;
  /** Longest sequence it reads. */
  readonly maxTokens: number;
  /** Kinds of token that `tokenTypeIds` tell apart (a text and its pair); left out where it does not read them. */
  readonly tokenTypes?: number;
  /** What it computes with and no shape shows, e.g. its number of heads: part of the model's identity. */
  readonly settings?: Readonly<Record<string, number>>;
  /** The modules that the head's features come through, in the order of the forward pass: methods act on these. */
  readonly sites: readonly Site[];
  /** The modules that only `encode` reaches, so that no method trains what a classifier never reads. */
  readonly encodeOnly: readonly Site[];
  readonly defaultTargetModules: readonly string[];
  readonly lookups: readonly Lookup[];
  /** Modules that have a table of the network for a weight. */
  readonly tied?: readonly TiedModule[];
  /** The sentence embedding that the network was published for: [batch, width]. */
  encode(scope: Scope, inputs: Tensors): Tensor;
}

/** A network with its head for a task. */
export interface Architecture extends Network {
  readonly head: Head;
  /**
   * Its module on the first token, which checkpoints of masked language models lack: where it is among `sites`, a classifier reads it, and
   * gets a new one, trained with the head; else it only comes along to where the model is written.
   */
  readonly pooler?: Site;
  /** How it goes on with a text, where it is one for the next token. */
  readonly decoding?: Decoding;
}

/** How a language model goes on with texts token by token, the keys and values of each layer kept from pass to pass. */
export interface Decoding {
  /** Size of the vocabulary: all ids are below it. */
  readonly words: number;
  /** Tokens of a text that it reads, at most. */
  readonly maxTokens: number;
  /** Once the longest text has so many tokens, all are read anew from their beginning; left out where that is never so. */
  readonly rereadAt?: number;
  /** What is kept of a batch of texts of at most `capacity` tokens, by name. */
  kept(batch: Axis, capacity: number): Readonly<Record<string, InputSpec>>;
  /**
   * Reads prompts: `inputIds` int32 and `attentionMask` float32, [batch, tokens], padded at the end. Gives `logits` [batch, words]
   * of what follows each prompt, and what is kept.
   */
  readPrompt(scope: Scope, inputs: Tensors, capacity: number): Tensors;
  /** Reads one token more of each text: `inputIds` and `positions`, int32 [batch, 1], and what was kept. Gives the same. */
  readToken(scope: Scope, inputs: Tensors, capacity: number): Tensors;
  /** The same as exported graphs do it; without it they give the logits of whole texts alone. */
  readonly withPast?: PastDecoding;
}

/** An input of the batch. @throws ShapeError when the batch has none of that name. */
export function batchInput(inputs: Tensors, name: string): Tensor {
  const input = inputs[name];
  if (!input)
    throw new ShapeError(`the model reads '${name}', got ${Object.keys(inputs).join(', ') || 'nothing'}`, name);
  return input;
}

/** A weight as a checkpoint declares it; a dtype that is no float32 is called as the file calls it. */
export interface DeclaredWeight {
  readonly dtype: string;
  readonly shape: readonly number[];
}

/** The shape of every weight of an architecture, its head left out, by name. */
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
 * Holds what a checkpoint says it has against what the architecture needs, before any weight is read.
 * @throws CheckpointError naming the first missing or mis-shaped weight.
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

/** Holds weights to be finite. @throws CheckpointError naming the first weight that holds a NaN or an infinite value. */
export function checkFinite(weights: HostTensors, file: string): void {
  for (const [name, tensor] of Object.entries(weights)) {
    const position = firstNotFinite(tensor.data);
    if (position >= 0) throw notFinite(file, name, position, tensor.data[position]);
  }
}

/** The error for a weight that holds a value that is not finite. */
export function notFinite(file: string, name: string, position: number, value: number | undefined): CheckpointError {
  return new CheckpointError(`${file}: weight '${name}' holds ${value} at position ${position}`, name);
}

/** The position of the first value that is not finite; -1 where all are. */
export function firstNotFinite(data: HostTensor['data']): number {
  for (let position = 0; position < data.length; position++) {
    if (!Number.isFinite(data[position])) return position;
  }
  return -1;
}

/** What stands on a network for a task. */
export interface Head {
  /** Names of what is trained with every method, as PEFT's `modules_to_save` has them; none where the head stays frozen. */
  readonly trained: readonly string[];
  /** Its number of outputs, where that is no choice: the words of a vocabulary. */
  readonly outputs?: number;
  /** Its modules for a number of outputs, in the order of the forward pass; the last one gives them. */
  sites(outputs: number): readonly Site[];
  /** Logits [batch, outputs], or [batch, tokens, outputs] for a task of tokens; for 'feature-extraction' an embedding [batch, width]. */
  forward(scope: Scope, inputs: Tensors): Tensor;
  /** For 'feature-extraction': the embeddings of tokens [batch, tokens, width], where they may be pooled in any way. */
  readonly tokens?: Features;
}

/** The architecture for a checkpoint without its pooler: a new one is part of the head. */
export function withNewPooler(architecture: Architecture, pooler: Site): Architecture {
  const { head, sites } = architecture;
  return {
    ...architecture,
    sites: sites.filter(({ path }) => path !== pooler.path),
    head: {
      ...head,
      trained: [pooler.path.replace(/\.\w+$/, ''), ...head.trained],
      sites: (outputs) => [{ ...pooler, role: 'head' }, ...head.sites(outputs)],
    },
  };
}

/** What a head reads of a batch: [batch, width], or [batch, tokens, width] for a task of tokens. */
export type Features = (scope: Scope, inputs: Tensors) => Tensor;

/** A head's modules: linear, of one role, and no methods' targets. */
interface HeadModule {
  readonly path: string;
  readonly hasBias?: boolean;
}

/** One linear module. */
export function linearHead({ path, hasBias = true }: HeadModule, width: number, features: Features): Head {
  return {
    trained: [path],
    sites: (outputs) => [{ ...linearSite(path, width, outputs, { role: 'head' }), hasBias }],
    forward: (scope, inputs) => scope.linear(path, features(scope, inputs)), // [.., width] -> [.., outputs]
  };
}

/** What a head of two modules is made of. */
interface DenseHead {
  /** Names of what is trained, e.g. of the module that both are in. */
  readonly trained: readonly string[];
  /** width -> width */
  readonly dense: string;
  /** Between the two. */
  readonly activation: (x: Tensor) => Tensor;
  /** width -> outputs */
  readonly out: string;
}

/** Two linear modules with an activation between them, on features [batch, width]. */
export function denseHead({ trained, dense, activation, out }: DenseHead, width: number, features: Features): Head {
  return {
    trained,
    sites: (outputs) => [
      linearSite(dense, width, width, { role: 'head' }),
      linearSite(out, width, outputs, { role: 'head' }),
    ],
    forward: (scope, inputs) => scope.linear(out, activation(scope.linear(dense, features(scope, inputs)))),
  };
}

/** None: the embeddings of tokens [batch, tokens, width] are pooled, as the mean of a text unless the model says otherwise. */
export function noHead(tokens: Features): Head {
  return {
    trained: [],
    sites: () => [],
    forward: (scope, inputs) => tokenMean(tokens(scope, inputs), batchInput(inputs, 'attentionMask')),
    tokens,
  };
}

/** A frozen module of the network as a head, or one that has the table of words for a weight. */
export function frozenHead(path: string, words: number, features: Features): Head {
  return {
    trained: [],
    outputs: words,
    sites: () => [],
    forward: (scope, inputs) => scope.linear(path, features(scope, inputs)), // [.., width] -> [.., words]
  };
}

/** The head for a task. @throws UnsupportedError when the network has none for it. */
export function headFor<T>(network: string, heads: Readonly<Partial<Record<Task, T>>>, task: Task): T {
  const head = heads[task];
  if (head) return head;
  const known = Object.keys(heads).join(', ');
  throw new UnsupportedError(`${network} has no head for the task '${task}'; it has ${known}`, 'task');
}
