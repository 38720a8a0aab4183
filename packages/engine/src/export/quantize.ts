/**
 * Stores the frozen matrices of a graph in 8 bits, in blocks of 32 numbers that share a scale:
 *
 *   s = max |w| / 127     u = round(w / s) + 128     w ~ s (u - 128)     a block is 32 of the inputs of one output
 *
 * Products become ONNX Runtime's MatMulNBits, which all its devices support, including WebGPU, and which rounds the
 * other operand in blocks, too. Alternatives: scales for whole rows and columns (MatMulInteger) have three times the
 * error in a small Llama, one scale for a whole operand (DynamicQuantizeLinear) nine times; and their int8 products are
 * not exact on processors without VNNI. An embedding table that is also the head is stored once: its rows are looked up
 * in blocks.
 */
import { floats, tensorAt, type HostTensors } from '@peftjs/core/method';
import type { GraphConstant, GraphNode } from '../compiled/parts.js';
import { ELEMENT_NUMBERS, standardNode } from '../compiled/parts.js';
import type { ModelGraph } from '../compiled/onnx.js';

const BLOCK = 32;
const INT8_MAX = 127;
const ZERO_POINT = 128;

/**
 * Returns the graph with weights in 8 bits: those that it only multiplies by, or only looks up rows of.
 * @param weights the float32 constants that may be rounded, by their names in the graph
 */
export function quantizedGraph(graph: ModelGraph, weights: HostTensors): ModelGraph {
  const transposed = transposedWeights(graph, weights);
  const uses = usesOf(graph, weights, transposed);
  const packed = new Map([...uses].map(([name, use]) => [name, pack(name, weights, use)]));
  const nodes = graph.nodes.flatMap((node, index): GraphNode[] => {
    const matrix = packed.get(operandOf(node, transposed)?.name ?? '');
    if (matrix === undefined) return [node];
    return node.op === 'Gather' ? lookUp(matrix, node, `rows_${index}`) : [product(matrix, node)];
  });
  const made = [...packed.values()].flatMap(({ values, scales, width }) => [values, scales, width]);
  const read = new Set([...nodes.flatMap(({ inputs }) => inputs), ...graph.outputs.map(({ name }) => name)]);
  return {
    ...graph,
    nodes: nodes.filter(({ op, outputs: [name = ''] }) => op !== 'Transpose' || read.has(name)),
    constants: [...graph.constants, ...made, ...SHARED].filter(({ name }) => read.has(name) && !packed.has(name)),
  };
}

/** How the weights of one output lie in a matrix: a row of a table, or a column of a matrix [in, out]. */
type Use = 'row' | 'column';

interface Operand {
  readonly name: string;
  readonly use: Use;
}

/** Transposed weights: the name of the transposed value -> the name of the weight. */
function transposedWeights({ nodes }: ModelGraph, weights: HostTensors): ReadonlyMap<string, string> {
  const own = nodes.filter(({ op, inputs: [name = ''] }) => op === 'Transpose' && weights[name]?.shape.length === 2);
  return new Map(own.map(({ inputs: [name = ''], outputs: [transposed = ''] }) => [transposed, name]));
}

/** The matrix that a node multiplies by or looks up rows of; undefined for other nodes. */
function operandOf(
  { op, inputs, attributes }: GraphNode,
  transposed: ReadonlyMap<string, string>,
): Operand | undefined {
  const [first = '', second = ''] = inputs;
  if (op === 'Gather' && attributes.axis === 0) return { name: first, use: 'row' };
  if (op !== 'MatMul') return undefined;
  const name = transposed.get(second);
  return name === undefined ? { name: second, use: 'column' } : { name, use: 'row' };
}

/** How each matrix is used; those used in several ways are left out. */
function usesOf(graph: ModelGraph, weights: HostTensors, transposed: ReadonlyMap<string, string>): Map<string, Use> {
  const uses = new Map<string, Use>();
  const excluded = new Set<string>();
  for (const node of graph.nodes) {
    const operand = operandOf(node, transposed);
    const read = node.inputs.map((input) => transposed.get(input) ?? input);
    const isTranspose = transposed.has(node.outputs[0] ?? '');
    for (const name of isTranspose ? [] : read) {
      if (weights[name]?.shape.length !== 2) continue;
      const use = operand?.name === name ? operand.use : undefined;
      if (use === undefined || (uses.get(name) ?? use) !== use) excluded.add(name);
      else uses.set(name, use);
    }
  }
  return new Map([...uses].filter(([name]) => !excluded.has(name)));
}

/** A matrix in 8 bits: one row of blocks per output. */
interface Packed {
  /** The number of outputs. */
  readonly outputs: number;
  /** The number of inputs. */
  readonly inputs: number;
  /** uint8 [outputs, blocks, 32]; the last block is padded with zeros. */
  readonly values: GraphConstant;
  /** float32 [outputs, blocks] */
  readonly scales: GraphConstant;
  /** `inputs`, as the end of a Slice. */
  readonly width: GraphConstant;
}

function pack(name: string, weights: HostTensors, use: Use): Packed {
  const weight = tensorAt(weights, name);
  const from = floats(weight, name);
  const [rows = 0, columns = 0] = weight.shape;
  const [outputs, inputs] = use === 'row' ? [rows, columns] : [columns, rows];
  const [outputStep, inputStep] = use === 'row' ? [columns, 1] : [1, columns];
  const blocks = Math.ceil(inputs / BLOCK);
  const values = new Uint8Array(outputs * blocks * BLOCK).fill(ZERO_POINT);
  const scales = new Float32Array(outputs * blocks);
  for (let block = 0; block < outputs * blocks; block++) {
    const [output, first] = [Math.floor(block / blocks), (block % blocks) * BLOCK];
    const count = Math.min(BLOCK, inputs - first);
    const start = output * outputStep + first * inputStep;
    let largest = 0;
    for (let at = 0; at < count; at++) largest = Math.max(largest, Math.abs(from[start + at * inputStep] as number));
    const scale = Math.fround(largest / INT8_MAX);
    scales[block] = scale;
    if (scale === 0) continue;
    for (let at = 0; at < count; at++) {
      values[block * BLOCK + at] = ZERO_POINT + Math.round((from[start + at * inputStep] as number) / scale);
    }
  }
  return {
    outputs,
    inputs,
    values: { name: `${name}_quantized`, dtype: 'uint8', shape: [outputs, blocks, BLOCK], data: values },
    scales: { name: `${name}_scales`, dtype: 'float32', shape: [outputs, blocks], data: scales },
    width: integers(`${name}_width`, inputs),
  };
}

/** x [.., inputs] -> [.., outputs] */
function product({ outputs, inputs, values, scales }: Packed, node: GraphNode): GraphNode {
  const [x = ''] = node.inputs;
  return {
    op: 'MatMulNBits',
    domain: 'com.microsoft',
    inputs: [x, values.name, scales.name],
    outputs: node.outputs,
    // accuracy_level 4: int8 products where the device has them.
    attributes: { K: inputs, N: outputs, bits: 8, block_size: BLOCK, accuracy_level: 4 },
  };
}

/** ids [..] -> [.., inputs] */
function lookUp({ inputs, values, scales, width }: Packed, node: GraphNode, prefix: string): GraphNode[] {
  const [, ids = ''] = node.inputs;
  const isFilled = inputs % BLOCK !== 0;
  const steps: GraphNode[] = [];
  const step = (op: string, read: readonly string[], attributes: GraphNode['attributes'] = {}): string => {
    const name = `${prefix}_${steps.length}`;
    steps.push(standardNode(op, read, name, attributes));
    return name;
  };
  const found = step('Gather', [values.name, ids], { axis: 0 }); // [.., blocks, 32]
  const integral = step('Sub', [step('Cast', [found], { to: ELEMENT_NUMBERS.float32 }), ZERO.name]);
  const ofBlocks = step('Unsqueeze', [step('Gather', [scales.name, ids], { axis: 0 }), LAST.name]); // [.., blocks, 1]
  const numbers = step('Mul', [integral, ofBlocks]); // [.., blocks, 32]
  const lengths = step('Concat', [step('Shape', [ids]), LAST.name], { axis: 0 }); // [.., -1]
  const rows = step('Reshape', [numbers, lengths]); // [.., blocks * 32]
  if (isFilled) step('Slice', [rows, START.name, width.name, LAST.name]);
  const last = steps.at(-1) as GraphNode;
  return [...steps.slice(0, -1), { ...last, outputs: node.outputs }];
}

function integers(name: string, value: number): GraphConstant {
  return { name, dtype: 'int64', shape: [1], data: BigInt64Array.of(BigInt(value)) };
}

const ZERO: GraphConstant = {
  name: 'quantized_zero',
  dtype: 'float32',
  shape: [],
  data: Float32Array.of(ZERO_POINT),
};
const LAST = integers('quantized_last', -1);
const START = integers('quantized_start', 0);
const SHARED = [ZERO, LAST, START];
