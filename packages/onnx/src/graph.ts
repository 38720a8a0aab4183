import { CheckpointError, sizeOf } from '@peftjs/core/method';
import type { ModelFile, Node } from './format/model.js';
import { TYPES, type Constant, type Kind } from './format/tensor.js';
import { kindsIn } from './kinds.js';
import { OWN_DOMAIN } from './operators/own.js';

/**
 * A graph whose nodes can be replaced, output by output. Nothing is removed: nodes that no output depends on are not
 * computed.
 */
export class Graph {
  readonly file: ModelFile;
  readonly #producers = new Map<string, Node>();
  readonly #kinds: ReadonlyMap<string, Kind>;
  readonly #uses = new Map<string, number>();
  readonly #sources = new Map<string, string>();

  /**
   * @throws CheckpointError when two nodes have one output, or a node reads something that nothing computes, or depends
   * on itself.
   */
  constructor(file: ModelFile) {
    this.file = file;
    const known = new Set([...file.constants.keys(), ...file.inputs.map(({ name }) => name)]);
    for (const node of file.nodes) {
      for (const output of node.outputs.filter((name) => name !== '')) {
        if (known.has(output)) throw new CheckpointError(`two nodes compute '${output}'`, output);
        known.add(output);
        this.#producers.set(output, node);
      }
    }
    const read = [...file.nodes.flatMap((node) => node.inputs), ...file.outputs.map(({ name }) => name)];
    for (const name of read) {
      if (name !== '' && !known.has(name)) throw new CheckpointError(`nothing computes '${name}'`, name);
      this.#uses.set(name, (this.#uses.get(name) ?? 0) + 1);
    }
    this.#kinds = kindsIn(file, this.order([...this.#producers.keys()]));
  }

  /** Returns the node that computes a value; undefined for inputs and constants. */
  producer(name: string): Node | undefined {
    return this.#producers.get(name);
  }

  /** Returns the node that computes a value if it is of that operator, behind nodes that only pass it on. */
  made(name: string, op: string): Node | undefined {
    const node = this.producer(this.source(name));
    return node?.op === op ? node : undefined;
  }

  /** Whether a value, and each that it passes on, is read exactly once: by one node, or as an output of the graph. */
  hasOneUse(name: string): boolean {
    let at = name;
    for (let node = this.producer(at); node && this.#passesOn(node); node = this.producer(at)) {
      if (this.#uses.get(at) !== 1) return false;
      at = node.inputs[0] ?? '';
    }
    return this.#uses.get(at) === 1;
  }

  /** Follows a value through nodes that pass it on in inference. */
  source(name: string): string {
    const passed: string[] = [];
    let at = name;
    for (let node = this.producer(at); node && this.#passesOn(node); node = this.producer(at)) {
      passed.push(at);
      at = this.#sources.get(at) ?? node.inputs[0] ?? '';
    }
    for (const each of passed) this.#sources.set(each, at);
    return at;
  }

  /**
   * Whether a node returns its first input: a dropout does so outside of training, and at rate 0, and a cast from one
   * type of floats to another, as all of them are computed as float32, or of integers to 32 or 64 bits.
   */
  #passesOn({ op, domain, attributes, inputs: [of = '', rate, training], outputs: [output = ''] }: Node): boolean {
    if (domain !== '') return false;
    if (op === 'Cast') {
      const kind = this.#kinds.get(output);
      const isWide = attributes['to'] === TYPES.int32.id || attributes['to'] === TYPES.int64.id;
      return this.#kinds.get(of) === kind && (kind === 'float' || isWide);
    }
    if (op !== 'Dropout') return op === 'Identity';
    return training === undefined || training === '' || this.number(training) === 0 || this.number(rate) === 0;
  }

  /** Returns a constant, behind nodes that only pass it on. */
  constant(name: string): Constant | undefined {
    return this.file.constants.get(this.source(name));
  }

  /** Returns the number of a constant of one element; undefined for any other value. */
  number(name: string | undefined): number | undefined {
    const constant = name === undefined ? undefined : this.constant(name);
    return constant && sizeOf(constant.shape) === 1 ? constant.numbers()[0] : undefined;
  }

  /** Makes another node compute a value from now on. */
  replace(output: string, node: Pick<Node, 'op' | 'inputs'> & Partial<Node>): void {
    this.#producers.set(output, { domain: OWN_DOMAIN, name: output, attributes: {}, ...node, outputs: [output] });
  }

  /** Adds a node and returns the name of its output. */
  add(name: string, node: Pick<Node, 'op' | 'inputs'> & Partial<Node>): string {
    const output = `${name} (${OWN_DOMAIN})`;
    this.replace(output, node);
    return output;
  }

  /**
   * Returns the nodes that outputs depend on, in the order of computation.
   * @throws CheckpointError when a node depends on itself.
   */
  order(outputs: readonly string[]): Node[] {
    const ordered: Node[] = [];
    const state = new Map<Node, 'open' | 'done'>();
    const stack = outputs.toReversed().flatMap((name) => this.producer(name) ?? []);
    for (let node = stack.at(-1); node; node = stack.at(-1)) {
      const seen = state.get(node);
      if (seen !== undefined) {
        stack.pop();
        if (seen === 'open') ordered.push(node);
        state.set(node, 'done');
        continue;
      }
      state.set(node, 'open');
      for (const name of node.inputs.toReversed()) {
        const before = this.producer(name);
        if (before && state.get(before) === 'open') {
          throw new CheckpointError(`the graph has a cycle: '${name}' depends on itself`, name);
        }
        if (before && !state.has(before)) stack.push(before);
      }
    }
    return ordered;
  }
}
