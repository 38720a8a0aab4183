import { CheckpointError, UnsupportedError } from '@peftjs/core/method';
import type { Message } from './message.js';
import { readTensor, typeNumbered, type Constant, type ElementType, type Piece } from './tensor.js';

/** The value of an attribute; undefined for a graph and other values that are not read. */
export type Attribute = number | string | readonly number[] | readonly string[] | Constant | undefined;

/** A node of a graph. */
export interface Node {
  /** The operator, e.g. `MatMul`. */
  readonly op: string;
  /** The domain of the operator; empty for ONNX itself. */
  readonly domain: string;
  /** The name of the node, for messages and module paths. */
  readonly name: string;
  /** The names of the values that it reads; empty for an optional one that is left out. */
  readonly inputs: readonly string[];
  /** The names of the values that it computes. */
  readonly outputs: readonly string[];
  /** Its attributes by name. */
  readonly attributes: Readonly<Record<string, Attribute>>;
  /** The path of the module that it was exported from, where the exporter says so. */
  readonly module?: string;
}

/** An input or output of a graph. */
export interface Port {
  readonly name: string;
  /** Its sizes; undefined where they are not fixed. Undefined if even their number is unknown. */
  readonly shape: readonly (number | undefined)[] | undefined;
  /** The type of its numbers, where the file says it. */
  readonly type: ElementType | undefined;
}

/** What a model file says. */
export interface ModelFile {
  /** The nodes, without constants. */
  readonly nodes: readonly Node[];
  /** The initializers, and the tensors of `Constant` nodes, by name. */
  readonly constants: ReadonlyMap<string, Constant>;
  /** The names of the initializers. */
  readonly initializers: ReadonlySet<string>;
  readonly inputs: readonly Port[];
  readonly outputs: readonly Port[];
  /** The version of ONNX's own operators. */
  readonly opset: number;
}

/** The versions of ONNX's operators that are read. */
const [FIRST_OPSET, LAST_OPSET] = [11, 22];
/** The most nodes and the most tensors of a graph. The largest models have some ten thousand. */
const MOST_PARTS = 200_000;

/**
 * Reads a ModelProto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto). Tensors are views of the bytes.
 * @param external returns the bytes of a piece of another file
 * @throws CheckpointError for a broken file, naming the node or tensor; UnsupportedError for another opset.
 */
export function readModel(proto: Message, external: (piece: Piece) => Uint8Array): ModelFile {
  if (!proto.has(7)) throw new CheckpointError('expected an ONNX model: the file has no graph');
  const graph = proto.message(7);
  const opset = opsetOf(proto);
  if (graph.has(15)) throw new UnsupportedError('sparse initializers are not read: export the model with dense ones');
  const constants = new Map<string, Constant>();
  const add = (constant: Constant): void => {
    if (constants.has(constant.name))
      throw new CheckpointError(`tensor '${constant.name}' appears twice`, constant.name);
    constants.set(constant.name, constant);
  };
  assertFew(graph.count(5), 'tensors');
  for (const tensor of graph.messages(5)) add(readTensor(tensor, tensor.text(8), external));
  const initializers = new Set(constants.keys());
  assertFew(graph.count(1), 'nodes');
  const all = Array.from(graph.messages(1), (node) => readNode(node, external));
  const nodes = all.filter((node) => {
    const constant = node.op === 'Constant' && node.domain === '' ? constantOf(node) : undefined;
    if (constant) add(constant);
    return constant === undefined;
  });
  const given = (ports: readonly Port[]): readonly Port[] => ports.filter(({ name }) => !constants.has(name));
  return {
    nodes,
    constants,
    initializers,
    inputs: given(Array.from(graph.messages(11), readPort)),
    outputs: Array.from(graph.messages(12), readPort),
    opset,
  };
}

function assertFew(count: number, what: string): void {
  if (count > MOST_PARTS) throw new CheckpointError(`the graph has ${count} ${what}, at most ${MOST_PARTS} are read`);
}

function opsetOf(proto: Message): number {
  let opset = 0;
  for (const set of proto.messages(8)) {
    if (opset === 0 && ['', 'ai.onnx'].includes(set.text(1))) opset = set.int(2);
  }
  if (opset >= FIRST_OPSET && opset <= LAST_OPSET) return opset;
  throw new UnsupportedError(
    `the model has opset ${opset}; ${FIRST_OPSET} to ${LAST_OPSET} are read: export it with one of these`,
    'opset',
  );
}

function readNode(proto: Message, external: (piece: Piece) => Uint8Array): Node {
  const [op, name, domain] = [proto.text(4), proto.text(3), proto.text(7)];
  const outputs = proto.texts(2);
  const attributes = Array.from(
    proto.messages(5),
    (attribute) => [attribute.text(1), readAttribute(attribute, outputs[0] ?? name, external)] as const,
  );
  const module = moduleOf(proto);
  return {
    op,
    name,
    domain: domain === 'ai.onnx' ? '' : domain,
    inputs: proto.texts(1),
    outputs,
    attributes: Object.fromEntries(attributes),
    ...(module !== undefined && { module }),
  };
}

/** Reads an AttributeProto; graphs, lists of tensors and references are not read. */
function readAttribute(proto: Message, output: string, external: (piece: Piece) => Uint8Array): Attribute {
  switch (proto.int(20)) {
    case 1:
      return floatsIn(proto, 2)[0] ?? 0;
    case 2:
      return proto.int(3);
    case 3:
      return proto.text(4);
    case 4:
      return readTensor(proto.message(5), output, external);
    case 6:
      return floatsIn(proto, 7);
    case 7:
      return proto.ints(8);
    case 8:
      return proto.texts(9);
    default:
      return undefined;
  }
}

function floatsIn(proto: Message, field: number): number[] {
  const bytes = proto.fixed(field);
  return [...new Float32Array(bytes.buffer, 0, Math.floor(bytes.byteLength / 4))];
}

/** The key under which torch.onnx notes the modules around a node, from the outermost on, then the function's name. */
const SCOPES = 'pkg.torch.onnx.name_scopes';

function moduleOf(proto: Message): string | undefined {
  for (const entry of proto.messages(9)) {
    if (entry.text(1) !== SCOPES) continue;
    const names = Array.from(entry.text(2).matchAll(/'([^']*)'/g), ([, name]) => name as string);
    return names.at(-2) || undefined;
  }
  return undefined;
}

/** Returns the tensor of a `Constant` node. */
function constantOf({ outputs, attributes, name }: Node): Constant {
  const [output = name] = outputs;
  const { value, value_float: float, value_floats: floats, value_int: int, value_ints: ints } = attributes;
  if (typeof value === 'object' && 'numbers' in value) return value;
  const numbers = [float ?? floats ?? int ?? ints].flat();
  if (numbers.length === 0 || !numbers.every((number) => typeof number === 'number')) {
    throw new UnsupportedError(`Constant '${output}' holds no tensor of numbers`, output);
  }
  const isFloat = (float ?? floats) !== undefined;
  return {
    name: output,
    type: isFloat ? 'float32' : 'int64',
    shape: (float ?? int) === undefined ? [numbers.length] : [],
    numbers: () => (isFloat ? Float32Array : Float64Array).from(numbers),
  };
}

function readPort(proto: Message): Port {
  const name = proto.text(1);
  const tensor = proto.message(2).message(1);
  const type = tensor.has(1) ? typeNumbered(tensor.int(1), `'${name}'`) : undefined;
  const sizeOfAxis = (dim: Message): number | undefined => (dim.has(1) ? dim.int(1) : undefined);
  return { name, type, shape: tensor.has(2) ? Array.from(tensor.message(2).messages(1), sizeOfAxis) : undefined };
}
