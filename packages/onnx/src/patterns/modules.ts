import type { Site } from '@peftjs/core/method';
import { embeddingSite, layerNormSite, linearSite } from '@peftjs/core/model';
import type { Node } from '../format/model.js';
import { TYPES, type Constant } from '../format/tensor.js';
import type { Graph } from '../graph.js';
import { layerIn, pathsOf, roleOf } from './names.js';

/** A module of the model, and the tensors of the file that hold its parameters. */
export interface Module {
  readonly site: Site;
  /** Its weight in the file: [in, out] or, if `isTransposed`, [out, in]; [rows, width]; or [features]. */
  readonly weight: Constant;
  /** Whether the file has the weight as [out, in]. */
  readonly isTransposed: boolean;
  readonly bias: Constant | undefined;
}

/** The modules of a graph, by path. */
export type Modules = ReadonlyMap<string, Module>;

/** Puts a module in place of every product with a constant matrix, lookup in a constant table, and norm. */
export function replaceModules(graph: Graph): Modules {
  const found = new Finder(graph);
  for (const node of graph.file.nodes) {
    for (const output of node.outputs) found.replace(graph.producer(output), output);
  }
  return found.modules;
}

class Finder {
  readonly modules = new Map<string, Module>();

  readonly #inputs: ReadonlySet<string>;
  /** The additions of biases, by the product before: one module takes the place of both nodes. */
  readonly #biased: ReadonlyMap<string, Biased>;

  constructor(private readonly graph: Graph) {
    this.#inputs = new Set(graph.file.inputs.map(({ name }) => name));
    this.#biased = new Map(graph.file.nodes.flatMap((node) => node.outputs.flatMap((output) => this.#bias(output))));
  }

  replace(node: Node | undefined, output: string): void {
    if (node?.op === 'MatMul') this.#product(node, output);
    else if (node?.op === 'Gemm') this.#gemm(node, output);
    else if (node?.op === 'Gather') this.#embedding(node, output);
    else if (node !== undefined && NORMS.has(node.op) && output === node.outputs[0]) this.#norm(node, output);
  }

  #product(node: Node, output: string): void {
    const [x = '', weight = ''] = node.inputs;
    const matrix = this.#matrix(weight);
    if (!matrix || this.graph.constant(x)) return;
    const { sum = output, ...bias } = this.#biased.get(output) ?? {};
    this.#linear(node, sum, { x, weight, ...bias, ...matrix });
  }

  /** The product to which an addition, of this output, adds a bias that fits, if nothing else reads the product. */
  #bias(sum: string): [product: string, biased: Biased][] {
    const node = this.graph.producer(sum);
    const inputs = node?.op === 'Add' ? node.inputs : [];
    for (const [place, name] of inputs.entries()) {
      const [product, bias = ''] = [this.graph.made(name, 'MatMul'), inputs[1 - place]];
      const matrix = this.#matrix(product?.inputs[1] ?? '');
      if (!product || !matrix || !this.graph.hasOneUse(name)) continue;
      const fits = this.#vector(bias)?.shape[0] === matrix.constant.shape[matrix.isTransposed ? 0 : 1];
      if (fits) return [[this.graph.source(name), { sum, bias }]];
    }
    return [];
  }

  #gemm(node: Node, output: string): void {
    const [x = '', weight = '', bias = ''] = node.inputs;
    const matrix = this.#matrix(weight);
    const { alpha = 1, beta = 1, transA = 0, transB = 0 } = node.attributes;
    const isPlain = alpha === 1 && beta === 1 && transA === 0;
    if (!matrix || !isPlain || this.graph.constant(x) || (bias !== '' && !this.#vector(bias))) return;
    const isTransposed = matrix.isTransposed !== (transB === 1);
    this.#linear(node, output, { x, weight, constant: matrix.constant, isTransposed, ...(bias !== '' && { bias }) });
  }

  #linear(node: Node, output: string, { x, weight, bias = '', constant, isTransposed }: LinearParts): void {
    const [rows, columns] = constant.shape as [number, number];
    const [inFeatures, outFeatures] = isTransposed ? [columns, rows] : [rows, columns];
    const own = { weight: constant, isTransposed, bias: this.#vector(bias) };
    const path = this.#add(pathsOf(node, weight, bias), own, (path) => ({
      ...linearSite(path, inFeatures, outFeatures, { role: roleOf(path), ...layerIn(path) }),
      hasBias: bias !== '',
    }));
    this.graph.replace(output, { op: 'Linear', name: node.name, inputs: [x], attributes: { path } });
  }

  #embedding(node: Node, output: string): void {
    const [table = '', ids = ''] = node.inputs;
    const constant = this.#floats(table, 2);
    if (!constant || this.graph.constant(ids) || (node.attributes['axis'] ?? 0) !== 0) return;
    const [rows, width] = constant.shape as [number, number];
    const isShared = !this.#inputs.has(this.graph.source(ids));
    const own = { weight: constant, isTransposed: false, bias: undefined };
    const path = this.#add(pathsOf(node, table), own, (path) => ({
      ...embeddingSite(path, rows, width),
      ...(isShared && { readsShared: true }),
    }));
    this.graph.replace(output, { op: 'Embedding', name: node.name, inputs: [ids], attributes: { path } });
  }

  #norm(node: Node, output: string): void {
    const [x = '', gain = '', shift = ''] = node.inputs;
    const { axis = -1, epsilon = 1e-5 } = node.attributes;
    const [constant, added] = [this.#floats(gain, 1), this.#vector(shift)];
    if (!constant || axis !== -1 || (shift !== '' && !added)) return;
    // An exporter that needs a bias writes zeros where the norm has none.
    const isFiller =
      !this.graph.file.initializers.has(added?.name ?? '') && added?.numbers().every((each) => each === 0);
    const own = { weight: constant, isTransposed: false, bias: isFiller ? undefined : added };
    const path = this.#add(pathsOf(node, gain, shift), own, (path) => ({
      ...layerNormSite(path, constant.shape[0] as number, layerIn(path)),
      hasBias: own.bias !== undefined,
    }));
    const op = node.op === 'LayerNormalization' ? 'LayerNorm' : 'RmsNorm';
    this.graph.replace(output, { op, name: node.name, inputs: [x], attributes: { path, epsilon } });
  }

  /** Adds a module under the first path that no other one has, and returns the path. A shared module keeps its own. */
  #add(paths: readonly string[], own: Omit<Module, 'site'>, site: (path: string) => Site): string {
    const isFree = (path: string): boolean => {
      const known = this.modules.get(path);
      if (known === undefined) return true;
      const isSame = known.weight === own.weight && known.isTransposed === own.isTransposed && known.bias === own.bias;
      return isSame && known.site.kind === site(path).kind;
    };
    let path = paths.find(isFree);
    for (let count = 2; path === undefined; count++) path = [`${paths[0] ?? ''}_${count}`].find(isFree);
    this.modules.set(path, { ...own, site: site(path) });
    return path;
  }

  /** A constant matrix, perhaps transposed by a node. */
  #matrix(name: string): { constant: Constant; isTransposed: boolean } | undefined {
    const direct = this.#floats(name, 2);
    if (direct) return { constant: direct, isTransposed: false };
    const turned = this.#floats(this.graph.made(name, 'Transpose')?.inputs[0] ?? '', 2);
    return turned && { constant: turned, isTransposed: true };
  }

  #vector(name: string): Constant | undefined {
    return this.#floats(name, 1);
  }

  #floats(name: string, rank: number): Constant | undefined {
    const constant = this.graph.constant(name);
    return constant?.shape.length === rank && TYPES[constant.type].kind === 'float' ? constant : undefined;
  }
}

/** The sum of a product and a bias. */
interface Biased {
  readonly sum: string;
  readonly bias: string;
}

/** What a linear module is made of. */
interface LinearParts {
  readonly x: string;
  readonly weight: string;
  readonly bias?: string;
  readonly constant: Constant;
  readonly isTransposed: boolean;
}

const NORMS: ReadonlySet<string> = new Set(['LayerNormalization', 'RMSNormalization', 'SimplifiedLayerNormalization']);
