import type { Tensor } from '@tensorflow/tfjs';
import * as tf from '@tensorflow/tfjs';
import { linearSite, UnsupportedError } from '@peftjs/core';
import type { Scope, Site, Task, Tensors } from '@peftjs/core';

/** What stands on a network for a task. */
export interface Head {
  /** Names of what is trained with every method, as PEFT's `modules_to_save` has them; none where the head stays frozen. */
  readonly trained: readonly string[];
  /** Its number of outputs, where that is no choice: the words of a vocabulary. */
  readonly outputs?: number;
  /** Its modules for a number of outputs, in the order of the forward pass; the last one gives them. */
  sites(outputs: number): readonly Site[];
  /** Logits [batch, outputs], or [batch, tokens, outputs] for a task of tokens. */
  forward(scope: Scope, inputs: Tensors): Tensor;
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

/** What a vocabulary's logits come from. */
interface VocabularyHead {
  /** The table of words [words, width]; as it is frozen, so is the head. */
  readonly table: string;
  readonly words: number;
}

/** The table of words itself as a head: the logit of a word is the product of the features with its row. */
export function tiedHead({ table, words }: VocabularyHead, features: Features): Head {
  return {
    trained: [],
    outputs: words,
    sites: () => [],
    forward(scope, inputs) {
      const x = features(scope, inputs); // [batch, tokens, width]
      const [batch, tokens, width] = x.shape as [number, number, number];
      const rows = tf.reshape(x, [batch * tokens, width]);
      const logits = tf.matMul(rows, scope.weight(`${table}.weight`), false, true); // [batch * tokens, words]
      return tf.reshape(logits, [batch, tokens, words]);
    },
  };
}

/** A frozen module of the network as a head. */
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
